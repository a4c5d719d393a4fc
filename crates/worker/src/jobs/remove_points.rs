//! `remove_points`: remove the points of sessions that lost messages.
//!
//! Only makes removal faster: it waits for no model, while the sessions' own index jobs write their remaining messages
//! again. Removes all points of a session and not only those that hold a removed message: a chunk is embedded together
//! with its neighbors.

use std::sync::Arc;

use guildex_types::{JobKind, JobQueue, OutdatedSession, Revision, SessionId, Task};

use crate::circuit_breaker::GuardError;
use crate::claimed_job::ClaimedJob;
use crate::completer::Outcome;
use crate::job_context::{IndexChangeError, JobContext};
use crate::model_collections::ModelCollection;
use crate::time_limits::TimeLimit;

/// Kind of these jobs.
pub const KIND: JobKind = JobKind::RemovePoints;
/// Queue of these jobs.
pub const QUEUE: JobQueue = JobQueue::Delete;
/// Version of the payload.
pub const VERSION: u16 = JobKind::VERSION;
/// Unlimited attempts: a deletion is never given up. These jobs have no deduplication key.
pub const RETRIES_FOREVER: bool = true;
/// Default time limit of a deletion in one collection, set by `worker.time_limits.delete`.
pub const TIME_LIMIT: TimeLimit = super::delete_session::TIME_LIMIT;

pub(crate) async fn run(context: &JobContext, claimed: ClaimedJob, collections: &[ModelCollection]) {
    let Task::RemovePoints { sessions } = &claimed.job.task else { return };
    let outcome = match remove(context, &claimed, sessions, collections).await {
        Ok(()) => Outcome::Completed(claimed.target_revision),
        Err(GuardError::Failed(error)) => Outcome::Failed(error.to_string()),
        Err(GuardError::Stopped) => Outcome::Released,
    };
    claimed.finish(outcome);
}

/// Removes the points from every collection.
async fn remove(
    context: &JobContext,
    claimed: &ClaimedJob,
    sessions: &[OutdatedSession],
    collections: &[ModelCollection],
) -> Result<(), GuardError<IndexChangeError>> {
    let guild = claimed.job.guild_id;
    let limit = context.limiter.limit([KIND]);
    let outdated: Arc<[(SessionId, Revision)]> =
        sessions.iter().map(|session| (session.session_id, session.below)).collect();
    for ModelCollection { collection, .. } in collections {
        let delete = || {
            let (index, collection) = (context.index.clone(), collection.clone());
            let outdated = outdated.clone();
            async move { index.delete_below(&collection, guild, &outdated).await }
        };
        context.change_index("deleting from the index", limit, [claimed.id].into(), delete).await?;
    }
    Ok(())
}
