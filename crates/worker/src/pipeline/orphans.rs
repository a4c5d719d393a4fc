//! Points of sessions that do not exist in Postgres, removed at the request of `verify`.

use guildex_index::Error;
use guildex_types::SessionId;

use super::stage::{OutdatedPoints, StageContext};
use crate::circuit_breaker::GuardError;
use crate::completer::Outcome;
use crate::fan_out::ModelTask;
use crate::job_context::INDEX;

/// Removes points below the target revision, which was drawn for this job: points of a session that is created later are
/// newer.
pub(super) async fn remove(context: &StageContext, orphaned: Vec<(ModelTask, SessionId)>) {
    if orphaned.is_empty() {
        return;
    }
    let mut points = OutdatedPoints::new();
    for (task, session) in &orphaned {
        points.entry(task.job().guild_id).or_default().push((*session, task.target_revision()));
    }
    let delete = || context.delete_outdated(&points);
    let removed = match context.job.breaker.guard(INDEX, delete, Error::is_unavailable).await {
        Ok(()) => Ok(()),
        Err(GuardError::Failed(error)) => Err(error),
        Err(GuardError::Stopped) => return,
    };
    for (task, _) in orphaned {
        let target = task.target_revision();
        task.finish(match &removed {
            Ok(()) => Outcome::Completed(target),
            Err(error) => Outcome::Failed(error.to_string()),
        });
    }
}
