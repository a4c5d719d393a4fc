//! Points of sessions that the guild does not have: somebody asked for what nobody remembers.

use std::collections::BTreeMap;

use guildex_index::Error;
use guildex_types::{GuildId, Revision, SessionId};

use super::Parts;
use crate::finish::Outcome;
use crate::parts::Part;

/// Removes what is older than the revision that is wanted, which was drawn for the purpose: should there be such a
/// session one day, its points are newer.
pub(super) async fn remove(parts: &Parts, strays: Vec<(Part, SessionId)>) {
    if strays.is_empty() {
        return;
    }
    let mut older: BTreeMap<GuildId, Vec<(SessionId, Revision)>> = BTreeMap::new();
    for (part, session) in &strays {
        older.entry(part.job().guild_id).or_default().push((*session, part.wanted()));
    }
    // Where the worker stops, the parts are dropped, and so let go.
    let Ok(removed) = parts.breaker.guard("the index", || delete(parts, &older), Error::is_away).await else {
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

async fn delete(parts: &Parts, older: &BTreeMap<GuildId, Vec<(SessionId, Revision)>>) -> Result<(), Error> {
    for (guild, sessions) in older {
        parts.index.delete_below(&parts.target.collection, *guild, sessions).await?;
    }
    Ok(())
}
