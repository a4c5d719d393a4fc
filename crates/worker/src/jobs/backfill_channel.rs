//! `backfill_channel`: assign a channel's unassigned messages to sessions, and enqueue jobs for sessions that are
//! missing from the index.

use guildex_producer::IngestError;
use guildex_producer::backfill;
use guildex_store::models;
use guildex_types::{ChannelId, GuildId, JobKind, JobQueue, Task};

use crate::claimed_job::ClaimedJob;
use crate::completer::Outcome;
use crate::job_context::JobContext;
use crate::time_limits::{OnTimeout, TimeLimit};

/// Kind of these jobs.
pub const KIND: JobKind = JobKind::BackfillChannel;
/// Queue of these jobs.
pub const QUEUE: JobQueue = JobQueue::Backfill;
/// Version of the payload.
pub const VERSION: u16 = JobKind::VERSION;
/// Unlimited attempts; otherwise `worker.max_attempts` applies.
pub const RETRIES_FOREVER: bool = false;
/// Default time limit, set by `worker.time_limits.backfill`.
pub const TIME_LIMIT: TimeLimit = TimeLimit::from_mins(30, 60);

/// Deduplication key: a channel has at most one unfinished backfill.
pub fn dedup_key(guild: GuildId, channel: ChannelId) -> String {
    format!("backfill/{guild}/{channel}")
}

pub(crate) async fn run(context: &JobContext, claimed: ClaimedJob) {
    let Task::BackfillChannel { channel_id } = claimed.job.task else { return };
    let (ingest, guild) = (context.ingest.clone(), claimed.job.guild_id);
    let work = async move {
        let models = models::list(ingest.pool()).await?;
        let maintained = models.into_iter().filter(|model| model.state.is_maintained());
        let maintained: Vec<_> = maintained.map(|model| model.slug).collect();
        backfill::run(&ingest, guild, channel_id, &maintained).await
    };
    let (limit, jobs) = (context.limiter.limit([KIND]), [claimed.id].into());
    let outcome = match context.limiter.run("the backfill", limit, jobs, OnTimeout::Cancel, work).await {
        Ok(Ok(())) => Outcome::Completed(claimed.target_revision),
        // An outage of Postgres consumes no attempt.
        Ok(Err(IngestError::Store(error))) if error.is_transient() => Outcome::Released,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        // What was done is kept; the next attempt continues with the rest.
        Err(timed_out) => Outcome::Failed(timed_out.to_string()),
    };
    claimed.finish(outcome);
}
