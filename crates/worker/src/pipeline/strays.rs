//! Points of sessions that the guild does not have: somebody asked for what nobody remembers.

use guildex_index::Error;
use guildex_types::SessionId;

use super::{Older, Parts};
use crate::finish::Outcome;
use crate::parts::Part;

/// Removes what is older than the revision that is wanted, which was drawn for the purpose: should there be such a
/// session one day, its points are newer.
pub(super) async fn remove(parts: &Parts, strays: Vec<(Part, SessionId)>) {
    if strays.is_empty() {
        return;
    }
    let mut older = Older::new();
    for (part, session) in &strays {
        older.entry(part.job().guild_id).or_default().push((*session, part.wanted()));
    }
    // Where the worker stops, the parts are dropped, and so let go.
    let Ok(removed) =
        parts.breaker.guard("the index", || parts.delete_below(&older), Error::is_unavailable).await
    else {
        return;
    };
    for (part, _) in strays {
        let wanted = part.wanted();
        part.end(match &removed {
            Ok(()) => Outcome::Done(wanted),
            Err(error) => Outcome::Failed(error.to_string()),
        });
    }
}
