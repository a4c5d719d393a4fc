//! A job that is done for several models at once.

use std::sync::{Arc, Mutex, PoisonError};

use guildex_store::models::IndexModel;
use guildex_types::{Job, JobId, Revision};

use crate::claims::Held;
use crate::finish::Outcome;

/// One model's part of a job. The job ends when all of its parts have, as the worst of them did.
pub(crate) struct Part {
    whole: Arc<Whole>,
    told: bool,
}

struct Whole {
    held: Mutex<Option<Held>>,
    id: JobId,
    job: Job,
    wanted: Revision,
    models: Arc<[IndexModel]>,
    worst: Mutex<Option<Outcome>>,
}

impl Part {
    /// As many parts as there are models to be written. `models` are all that there are.
    pub fn of(held: Held, models: Arc<[IndexModel]>, parts: usize) -> Vec<Self> {
        let (id, job, wanted) = (held.id, held.job.clone(), held.wanted);
        let (held, worst) = (Mutex::new(Some(held)), Mutex::new(None));
        let whole = Arc::new(Whole { held, id, job, wanted, models, worst });
        (0..parts).map(|_| Self { whole: whole.clone(), told: false }).collect()
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.whole.id
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.whole.job
    }

    /// The revision that is to be reached.
    pub fn wanted(&self) -> Revision {
        self.whole.wanted
    }

    /// The models that there were when the job was begun.
    pub fn models(&self) -> &[IndexModel] {
        &self.whole.models
    }

    /// Says how this part ended.
    pub fn end(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.told, true) {
            let mut worst = self.whole.worst.lock().unwrap_or_else(PoisonError::into_inner);
            *worst = Some(match worst.take() {
                Some(before) => before.worse(outcome),
                None => outcome,
            });
        }
    }
}

/// One that is dropped before it ended has panicked, or was let go because the worker stops.
impl Drop for Part {
    fn drop(&mut self) {
        self.tell(Outcome::of_dropped());
    }
}

/// The last part is gone.
impl Drop for Whole {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let worst = self.worst.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(held) = held {
            held.end(worst.unwrap_or(Outcome::LetGo));
        }
    }
}
