//! From claimed jobs to what does them.

use std::collections::BTreeMap;
use std::sync::Arc;

use guildex_consistency::adopt::AdoptError;
use guildex_embed::Models;
use guildex_index::{CollectionName, Error, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::{Ingest, IngestError};
use guildex_types::{ChannelId, Eligibility, JobId, ModelSlug, OutdatedSession, Revision, SessionId, Task};
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breaker, Stopped};
use crate::claims::Held;
use crate::finish::Outcome;
use crate::limits::{Clock, GivenUp};
use crate::parts::Part;
use crate::pipeline::{Parts, Pipeline, SyncError};
use crate::targets::{Current, Target, Targets, kept_in_step};

/// What all jobs of a worker work on.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub ingest: Ingest,
    pub models: Arc<Models>,
    pub index: Arc<dyn VectorIndex>,
    pub targets: Arc<Targets>,
    pub breaker: Breaker,
    pub clock: Clock,
    pub eligible: Eligibility,
    pub previews: bool,
    pub stop: CancellationToken,
}

/// The jobs of one class: each has its own pipelines, so that a removal never stands behind an embedding.
pub(crate) struct Route {
    tasks: Tasks,
    pipelines: BTreeMap<ModelSlug, (Target, Pipeline)>,
}

impl Route {
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks, pipelines: BTreeMap::new() }
    }

    /// Sends sessions through the pipelines of all models, and runs everything else on its own. While the index is
    /// away all of them wait.
    pub async fn take(&mut self, batch: Vec<Held>) {
        let current = match self.tasks.current().await {
            Ok(Ok(current)) => current,
            Ok(Err(error)) => {
                tracing::error!(%error, jobs = batch.len(), "jobs wait for their collections");
                return;
            }
            Err(Stopped) => return,
        };
        let (sessions, others): (Vec<Held>, Vec<Held>) = batch.into_iter().partition(|held| {
            matches!(held.job.task, Task::IndexSession { .. } | Task::DeleteSession { .. })
        });
        for held in others {
            let (tasks, targets) = (self.tasks.clone(), current.targets.clone());
            // A panic ends the task alone; dropping the job tells of it.
            tokio::spawn(async move { tasks.run(held, &targets).await });
        }
        if !sessions.is_empty() {
            self.index(sessions, &current).await;
        }
    }

    async fn index(&mut self, batch: Vec<Held>, current: &Current) {
        self.pipelines.retain(|_, (target, _)| current.targets.contains(target));
        let mut shares: Vec<Vec<Part>> = current.targets.iter().map(|_| Vec::new()).collect();
        for held in batch {
            let parts = Part::of(held, current.kept.clone(), shares.len());
            shares.iter_mut().zip(parts).for_each(|(share, part)| share.push(part));
        }
        for (target, share) in current.targets.iter().zip(shares) {
            let start = || (target.clone(), Pipeline::start(Arc::new(self.tasks.parts(target))));
            let (_, pipeline) = self.pipelines.entry(target.model.clone()).or_insert_with(start);
            pipeline.push(share).await;
        }
    }
}

impl Tasks {
    async fn current(&self) -> Result<Result<Current, AdoptError>, Stopped> {
        self.breaker.guard("the index", || self.targets.current(), AdoptError::is_away).await
    }

    fn parts(&self, target: &Target) -> Parts {
        Parts {
            pool: self.ingest.pool().clone(),
            models: self.models.clone(),
            index: self.index.clone(),
            target: target.clone(),
            breaker: self.breaker.clone(),
            clock: self.clock.clone(),
            eligible: self.eligible,
            previews: self.previews,
            stop: self.stop.clone(),
        }
    }

    async fn run(&self, held: Held, targets: &[Target]) {
        let outcome = match &held.job.task {
            Task::RemovePoints { sessions } => match self.remove_points(&held, sessions, targets).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(Stopped) => return,
            },
            Task::BackfillChannel { channel_id } => {
                let outcome = self.backfill(&held, *channel_id).await;
                return held.end(outcome);
            }
            Task::IndexSession { .. } | Task::DeleteSession { .. } => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => Outcome::Done(held.wanted),
            Err(error) => Outcome::Failed(error),
        };
        held.end(outcome);
    }

    /// One that is given up has kept what it did; the next attempt takes up the rest.
    async fn backfill(&self, held: &Held, channel: ChannelId) -> Outcome {
        let (ingest, guild) = (self.ingest.clone(), held.job.guild_id);
        let work = async move {
            let models = kept_in_step(&ingest).await?;
            backfill::run(&ingest, guild, channel, &models).await
        };
        let (limit, jobs) = (self.clock.limit([held.job.kind()]), [held.id].into());
        match self.clock.within("the backfill", limit, jobs, GivenUp::Dropped, work).await {
            Ok(Ok(())) => Outcome::Done(held.wanted),
            // Nobody's fault: it comes again, and costs no attempt.
            Ok(Err(IngestError::Store(error))) if error.is_transient() => Outcome::LetGo,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(overdue) => Outcome::Failed(overdue.to_string()),
        }
    }

    /// Whole sessions, and not only the points that held what is gone: a chunk is embedded with what stands beside it.
    async fn remove_points(
        &self,
        held: &Held,
        sessions: &[OutdatedSession],
        targets: &[Target],
    ) -> Result<Result<(), SyncError>, Stopped> {
        let guild = held.job.guild_id;
        self.remove(held, targets, |index, collection| {
            let outdated: Vec<(SessionId, Revision)> =
                sessions.iter().map(|outdated| (outdated.session_id, outdated.below)).collect();
            async move { index.delete_below(&collection, guild, &outdated).await }
        })
        .await
    }

    /// Takes points out of every collection, and waits for an index that is away.
    async fn remove<F: Future<Output = Result<(), Error>> + Send + 'static>(
        &self,
        held: &Held,
        targets: &[Target],
        delete: impl Fn(Arc<dyn VectorIndex>, CollectionName) -> F,
    ) -> Result<Result<(), SyncError>, Stopped> {
        let (limit, jobs): (_, Arc<[JobId]>) = (self.clock.limit([held.job.kind()]), [held.id].into());
        for Target { collection, .. } in targets {
            let attempt = || async {
                let work = delete(self.index.clone(), collection.clone());
                let jobs = jobs.clone();
                let deleted =
                    self.clock.within("deleting from the index", limit, jobs, GivenUp::GoesOn, work);
                Ok(deleted.await.map_err(SyncError::Overdue)??)
            };
            if let Err(error) = self.breaker.guard("the index", attempt, SyncError::is_away).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}
