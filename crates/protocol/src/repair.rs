//! `verify --repair`, as `guildex_consistency::repair` does it: one session at a time here.

use crate::steps::ask_anew;
use crate::{Config, Revision, SessionId, State, index};

/// How far a repair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repairer {
    /// There is none.
    Away,
    /// It has taken a number and looked at the session's points.
    Found {
        /// The session.
        session: SessionId,
        /// The number.
        now: Revision,
        /// The points' revision and number, if there are any; the revision is none if they have several.
        found: Option<(Option<Revision>, u8)>,
    },
    /// No book tells of the points, and the session was no more.
    Gone {
        /// The session.
        session: SessionId,
        /// The number.
        now: Revision,
    },
}

/// `Guild::repair` up to `found`: takes a number and scrolls.
pub(crate) fn look(state: &mut State, session: SessionId) -> Option<()> {
    if state.repairer != Repairer::Away || state.index.is_none() {
        return None;
    }
    let now = state.next_revision();
    let mut revisions: Vec<Revision> =
        state.points(state.sessions.get(session)?.guild, session).map(|point| point.revision).collect();
    let count = u8::try_from(revisions.len()).ok()?;
    revisions.dedup();
    let found = match revisions.as_slice() {
        [] => None,
        [one] => Some((Some(*one), count)),
        _ => Some((None, count)),
    };
    state.repairer = Repairer::Found { session, now, found };
    Some(())
}

/// The next step: compares with the book, and then has the session indexed again or removes what is left of it.
pub(crate) fn go_on(config: &Config, state: &mut State) -> Option<()> {
    match state.repairer {
        Repairer::Away => return None,
        Repairer::Found { session, now, found } => {
            let of_session = state.sessions.get(session)?;
            let is_gone = of_session.content.is_none();
            state.repairer = Repairer::Away;
            match (of_session.book, found) {
                (Some(book), Some((Some(revision), points)))
                    if (book.point_revision, book.points) == (revision, points) => {}
                (Some(_), _) => index_again(config, state, session)?,
                (None, None) => {}
                (None, Some(_)) if is_gone => state.repairer = Repairer::Gone { session, now },
                (None, Some(_)) => index_again(config, state, session)?,
            }
            // The backfill that follows it.
            state.sessions.get_mut(session)?.is_asked_for = true;
        }
        Repairer::Gone { session, now } => {
            let guild = state.sessions.get(session)?.guild;
            index::delete_below(config, state.index.as_mut()?, guild, session, now);
            state.repairer = Repairer::Away;
        }
    }
    Some(())
}

/// `books::strike`, and a job for what lives.
fn index_again(config: &Config, state: &mut State, session: SessionId) -> Option<()> {
    let struck = state.sessions.get_mut(session)?;
    struck.book = None;
    if !struck.content.is_none() {
        ask_anew(config, state, session)?;
    }
    Some(())
}
