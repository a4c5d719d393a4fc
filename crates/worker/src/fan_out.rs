//! A job that is done for several models.

use std::sync::{Arc, Mutex, PoisonError};

use guildex_store::models::IndexModel;
use guildex_types::{Job, JobId, Revision};
use tracing::Span;

use crate::claimed_job::ClaimedJob;
use crate::completer::Outcome;

/// One model's share of a job. The job ends with its last share, with the worst of their outcomes.
pub(crate) struct ModelTask {
    fan_out: Arc<FanOut>,
    finished: bool,
}

struct FanOut {
    claimed: Mutex<Option<ClaimedJob>>,
    id: JobId,
    job: Job,
    target_revision: Revision,
    span: Span,
    models: Arc<[IndexModel]>,
    worst: Mutex<Option<Outcome>>,
}

impl ModelTask {
    /// Splits a job into one task for each of `count` models. `models` are all models that exist.
    pub fn split(claimed: ClaimedJob, models: Arc<[IndexModel]>, count: usize) -> Vec<Self> {
        let fan_out = Arc::new(FanOut {
            id: claimed.id,
            job: claimed.job.clone(),
            target_revision: claimed.target_revision,
            span: claimed.span.clone(),
            models,
            claimed: Mutex::new(Some(claimed)),
            worst: Mutex::new(None),
        });
        (0..count).map(|_| Self { fan_out: fan_out.clone(), finished: false }).collect()
    }

    pub fn id(&self) -> JobId {
        self.fan_out.id
    }

    pub fn job(&self) -> &Job {
        &self.fan_out.job
    }

    pub fn target_revision(&self) -> Revision {
        self.fan_out.target_revision
    }

    /// The job's span.
    pub fn span(&self) -> &Span {
        &self.fan_out.span
    }

    /// All models that existed when the job was started.
    pub fn models(&self) -> &[IndexModel] {
        &self.fan_out.models
    }

    pub fn finish(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.finished, true) {
            let mut worst = self.fan_out.worst.lock().unwrap_or_else(PoisonError::into_inner);
            *worst = Some(match worst.take() {
                Some(before) => before.worse(outcome),
                None => outcome,
            });
        }
    }
}

/// A task that is dropped before it finished has panicked, or is released because the worker stops.
impl Drop for ModelTask {
    fn drop(&mut self) {
        self.record(Outcome::of_dropped());
    }
}

/// Runs when the last task has been dropped.
impl Drop for FanOut {
    fn drop(&mut self) {
        let claimed = self.claimed.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let worst = self.worst.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(claimed) = claimed {
            claimed.finish(worst.unwrap_or(Outcome::Released));
        }
    }
}
