//! Medians, percentiles, and the cost of processes.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use procfs::process::Process;
use procfs::{CpuInfo, Current};
use serde::Serialize;

/// Machine and build that produced the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Cores available to this process.
    pub cores: usize,
    /// Whether this is a release build.
    pub release: bool,
}

impl Machine {
    pub(crate) fn of_process() -> Self {
        let processor = CpuInfo::current().ok().and_then(|cpu| cpu.model_name(0).map(str::to_owned));
        Self {
            processor: processor.unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            release: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, release } = self;
        write!(f, "on {processor}, cores: {cores}")?;
        if *release { Ok(()) } else { write!(f, " (debug build; figures are not representative)") }
    }
}

/// Median; the higher of the two middle values for an even number of values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Distribution of durations, with a precision of 0.1 %.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Durations {
    /// Adds a duration.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Percentile in milliseconds; `None` if there are no durations.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_percentile(percent) as f64 / 1e3)
    }
}

impl Default for Durations {
    fn default() -> Self {
        /// From a microsecond to an hour.
        const RANGE: (u64, u64) = (1, 3_600_000_000);
        const SIGNIFICANT_DIGITS: u8 = 3;
        match Histogram::new_with_bounds(RANGE.0, RANGE.1, SIGNIFICANT_DIGITS) {
            Ok(histogram) => Self(histogram),
            Err(error) => unreachable!("constant bounds: {error}"),
        }
    }
}

/// Resources used by a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Peak resident memory in MiB, including file pages.
    pub peak_mib: f64,
    /// Processor time of all threads in user and kernel mode.
    pub processor: Duration,
}

impl Cost {
    /// Cost of the process with this id; `None` if it has ended.
    pub fn of_pid(pid: u32) -> Option<Self> {
        let process = Process::new(i32::try_from(pid).ok()?).ok()?;
        let (status, stat) = (process.status().ok()?, process.stat().ok()?);
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let peak_mib = status.vmhwm? as f64 / 1024.0;
        Some(Self { peak_mib, processor: Duration::from_secs_f64(ticks) })
    }

    /// Cost of this process.
    pub fn of_self() -> Self {
        Self::of_pid(std::process::id()).unwrap_or_default()
    }
}

/// Current resident memory of this process in MiB.
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
    fn a_median_is_one_of_the_values() {
        assert_eq!(median([5.0, 1.0, 4.0, 2.0, 3.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0]), Some(4.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn percentiles_are_precise_to_a_thousandth() {
        let mut durations = Durations::default();
        assert_eq!(durations.percentile_ms(50.0), None);
        (1..=1_000).for_each(|ms| durations.record(Duration::from_millis(ms)));
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1_000.0)] {
            let found = durations.percentile_ms(percent).unwrap();
            assert!((found - expected).abs() <= 0.001 * expected, "{percent}: {found}");
        }
        assert_eq!(durations.count(), 1_000);
    }

    #[test]
    fn a_running_process_has_a_cost() {
        let before = Cost::of_self();
        let work: u64 = (0..30_000_000_u64).fold(0, |sum, n| sum ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        assert_ne!(work, 1);
        let after = Cost::of_self();
        assert!(after.peak_mib > 0.0 && after.processor >= before.processor, "{before:?} {after:?}");
        assert_eq!(Cost::of_pid(u32::MAX), None);
    }
}
