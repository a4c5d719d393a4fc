//! Medians, percentiles, and what a process costs.

use std::fmt;
use std::time::Duration;

use procfs::process::Process;
use procfs::{CpuInfo, Current};
use serde::Serialize;

/// What the figures are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As the processor names itself.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether the program was built to be fast.
    pub release: bool,
}

impl Machine {
    pub(crate) fn of_process() -> Self {
        let processor = CpuInfo::current().ok().and_then(|cpu| cpu.model_name(0).map(str::to_owned));
        Self {
            processor: processor.unwrap_or_else(|| "a processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            release: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, release } = self;
        write!(f, "on {processor}, cores: {cores}")?;
        if *release { Ok(()) } else { write!(f, "; a debug build: its figures say little") }
    }
}

/// The value in the middle; of an even number, the higher of the two. None of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    percentile(&mut values.into_iter().collect::<Vec<_>>(), 50)
}

/// The value that so many percent do not exceed (nearest rank). None of nothing. Sorts the values.
pub fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}

/// What a process has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// The most memory that it held at once, in MiB; pages of files among it.
    pub peak_mib: f64,
    /// Of all of its threads, in user and kernel mode.
    pub processor: Duration,
}

impl Cost {
    /// Of the process with this id; none once it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let process = Process::new(i32::try_from(pid).ok()?).ok()?;
        let (status, stat) = (process.status().ok()?, process.stat().ok()?);
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let peak_mib = status.vmhwm? as f64 / 1024.0;
        Some(Self { peak_mib, processor: Duration::from_secs_f64(ticks) })
    }

    /// Of this process.
    pub fn of_self() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }
}

/// The memory that this process holds now, in MiB.
pub fn resident_mib() -> f64 {
    let resident = || {
        let statm = Process::myself().ok()?.statm().ok()?;
        Some(statm.resident as f64 * procfs::page_size() as f64 / (1024.0 * 1024.0))
    };
    resident().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let mut values = vec![5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&mut values, 50), Some(3.0));
        assert_eq!(percentile(&mut values, 99), Some(5.0));
        assert_eq!(percentile(&mut values, 0), Some(1.0));
        assert_eq!(percentile(&mut [], 50), None);
        assert_eq!(median([4.0, 1.0]), Some(4.0));
    }

    #[test]
    fn a_process_that_runs_has_a_cost() {
        let before = Cost::of_self();
        let work: u64 = (0..30_000_000_u64).fold(0, |sum, n| sum ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        assert_ne!(work, 1);
        let after = Cost::of_self();
        assert!(after.peak_mib > 0.0 && after.processor >= before.processor, "{before:?} {after:?}");
        assert_eq!(Cost::of(u32::MAX), None);
    }
}
