//! The jobs that are not about one session.

use std::sync::Arc;

use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::ingest::Ingest;
use guildex_types::{GuildId, MessageId, ModelSlug, Revision, Task};

use crate::claims::Held;
use crate::finish::Outcome;
use crate::pipeline::Pipeline;

/// What they work on.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub ingest: Ingest,
    pub index: Arc<dyn VectorIndex>,
    pub collection: CollectionName,
    pub model: ModelSlug,
}

impl Tasks {
    /// Sends sessions through the pipeline, and runs everything else on its own.
    pub async fn route(&self, batch: Vec<Held>, pipeline: &Pipeline) {
        let (sessions, others): (Vec<Held>, Vec<Held>) = batch.into_iter().partition(|held| {
            matches!(held.job.task, Task::IndexSession { .. } | Task::DeleteSession { .. })
        });
        for held in others {
            let tasks = self.clone();
            // A panic ends the task alone; dropping the job tells of it.
            tokio::spawn(async move { tasks.run(held).await });
        }
        if !sessions.is_empty() {
            pipeline.push(sessions).await;
        }
    }

    async fn run(&self, held: Held) {
        let guild = held.job.guild_id;
        let outcome = match &held.job.task {
            Task::DeleteMessages { message_ids, .. } => {
                self.delete_messages(guild, message_ids, held.wanted).await
            }
            Task::BackfillChannel { channel_id } => {
                backfill::run(&self.ingest, guild, *channel_id, &self.model).await.map_err(|e| e.to_string())
            }
            Task::IndexSession { .. } | Task::DeleteSession { .. } => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => Outcome::Done(held.wanted),
            Err(error) => Outcome::Failed(error),
        };
        held.end(outcome);
    }

    /// `latest` is the highest revision that the removal gave to a session: points below it may show what was
    /// removed, later ones do not.
    async fn delete_messages(
        &self,
        guild: GuildId,
        messages: &[MessageId],
        latest: Revision,
    ) -> Result<(), String> {
        self.index
            .delete_messages(&self.collection, guild, messages, latest)
            .await
            .map_err(|error| error.to_string())
    }
}
