//! Measurement of one run.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::measure::Cost;

/// Measurement of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Wall-clock time.
    pub seconds: f64,
    /// Processor time of all cores in seconds.
    pub processor: f64,
    /// Peak memory of the process.
    pub peak_mib: f64,
    /// Memory with the model loaded but idle.
    pub idle_mib: f64,
    /// Floating-point operations, if counted.
    pub flops: f64,
}

/// Measures the time from its start to its stop.
pub(super) struct Stopwatch {
    start: Instant,
    before: Cost,
    idle_mib: f64,
}

impl Stopwatch {
    pub(super) fn start(idle_mib: f64) -> Self {
        Self { before: Cost::of_self(), start: Instant::now(), idle_mib }
    }

    pub(super) fn stop(self) -> Measurement {
        let (seconds, after) = (self.start.elapsed().as_secs_f64(), Cost::of_self());
        Measurement {
            seconds,
            processor: (after.processor - self.before.processor).as_secs_f64(),
            peak_mib: after.peak_mib,
            idle_mib: self.idle_mib,
            flops: 0.0,
        }
    }
}
