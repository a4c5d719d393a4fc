//! Properties that hold in every reachable state. Numbers are those of the invariants in `docs/protocol.md`.
//!
//! A state is idle when no work is left. [`TERMINATES`] says that every state becomes idle once changes and faults stop,
//! so what holds in idle states holds eventually.

use stateright::Property;

use crate::config::Config;
use crate::content::Content;
use crate::drain::{drain, is_idle, repaired};
use crate::ids::SessionId;
use crate::jobs::{Job, JobKind, JobState};
use crate::postgres::{IndexedSession, Session};
use crate::state::State;

/// All work ends, from every state.
pub const TERMINATES: &str = "all work ends";
/// Checked when idle; a session whose job is dead is exempt.
pub const INDEXED: &str = "1 every live session is indexed at its latest revision, eventually";
/// Checked from the moment a removal commits.
pub const HIDDEN: &str = "2 nothing removed is shown";
/// Checked when idle, unless a worker wrote after it lost its claim: such points remain until a repair.
pub const DELETED: &str = "2 points of removed content are deleted eventually";
/// A removal keeps being retried, also after another job takes its place.
pub const RETRIES_FOREVER: &str = "2 no removal dies";
/// Search, points and deletions stay within their guild.
pub const ISOLATED: &str = "3 no guild sees or holds another guild's points";
/// A job, a backfill or a dead job exists for every session that is not up to date.
pub const ENQUEUED: &str = "4 every change has its job, even if work ran twice or not at all";
/// One unfinished job per dedup key, and one worker per claim.
pub const EXCLUSIVE: &str = "4 a job exists once, and one worker holds its claim";
/// Checked when idle, after a repair: points, records and sessions agree, even after any loss.
pub const REBUILT: &str = "5 what was lost is rebuilt";

pub(crate) fn all() -> Vec<Property<Config>> {
    vec![
        Property::always(TERMINATES, |config: &Config, state: &State| drain(config, state.clone()).is_some()),
        Property::always(INDEXED, |config: &Config, state: &State| {
            !is_idle(config, state)
                || all_sessions(state, |id| is_indexed(state, id) || has_dead_job(state, id))
        }),
        Property::always(HIDDEN, nothing_removed_is_shown),
        Property::always(DELETED, |config: &Config, state: &State| {
            state.claim_lost
                || !is_idle(config, state)
                || all_sessions(state, |id| has_no_orphans(state, id) || has_dead_job(state, id))
        }),
        Property::always(RETRIES_FOREVER, |_: &Config, state: &State| {
            state.jobs.iter().all(|job| !(job.is_removal && job.may_die))
        }),
        Property::always(ISOLATED, no_point_is_of_another_guild),
        Property::always(ENQUEUED, |_: &Config, state: &State| {
            all_sessions(state, |id| is_recorded(state, id) || has_job(state, id))
        }),
        Property::always(EXCLUSIVE, jobs_are_exclusive),
        Property::always(REBUILT, |config: &Config, state: &State| {
            let agrees =
                |end: State| all_sessions(&end, |id| is_indexed(&end, id) && has_no_orphans(&end, id));
            !is_idle(config, state) || repaired(config, state.clone()).is_some_and(agrees)
        }),
    ]
}

fn all_sessions(state: &State, holds: impl Fn(SessionId) -> bool) -> bool {
    (0..state.sessions.len()).all(holds)
}

fn session(state: &State, id: SessionId, holds: impl FnOnce(&Session) -> bool) -> bool {
    state.sessions.get(id).is_some_and(holds)
}

/// The record names the session's revision, and the points show its content.
fn is_indexed(state: &State, id: SessionId) -> bool {
    session(state, id, |session| match session.indexed {
        None => !session.content.is_eligible(),
        Some(indexed) => {
            let mut shown = Content::NONE;
            let mut count = 0;
            for point in state.points(session.guild, id).filter(|p| p.revision == indexed.point_revision) {
                shown = shown.with(point.content);
                count += 1;
            }
            session.content.is_eligible()
                && indexed.indexed_revision == session.revision
                && (shown, count) == (session.content, indexed.points)
        }
    })
}

/// A dead job had the session's revision as its target.
fn has_dead_job(state: &State, id: SessionId) -> bool {
    session(state, id, |session| session.dead_revision >= session.revision)
}

/// Every point has the revision of the record.
fn has_no_orphans(state: &State, id: SessionId) -> bool {
    session(state, id, |session| {
        let recorded = session.indexed.map(|indexed| indexed.point_revision);
        state.points(session.guild, id).all(|point| Some(point.revision) == recorded)
    })
}

/// Points that a search shows contain only what is in their session now.
fn nothing_removed_is_shown(config: &Config, state: &State) -> bool {
    let guilds = || state.sessions.iter().map(|session| session.guild);
    guilds().all(|guild| {
        all_sessions(state, |id| {
            session(state, id, |session| {
                state
                    .points(guild, id)
                    .filter(|point| session.admits(config, guild, point.revision))
                    .all(|point| session.content.includes(point.content))
            })
        })
    })
}

fn no_point_is_of_another_guild(_: &Config, state: &State) -> bool {
    let ids = state.index.iter().flat_map(|index| index.keys());
    ids.into_iter().all(|id| session(state, id.session, |session| session.guild == id.guild))
}

/// The record names the session's revision, or there is nothing to index.
fn is_recorded(state: &State, id: SessionId) -> bool {
    session(state, id, |session| match session.indexed {
        None => !session.content.is_eligible(),
        Some(IndexedSession { indexed_revision, .. }) => {
            session.content.is_eligible() && indexed_revision == session.revision
        }
    })
}

/// A job has the session's revision as its target, a backfill is going to enqueue one, or a dead job had it.
fn has_job(state: &State, id: SessionId) -> bool {
    let is_targeted = |session: &Session| {
        state.jobs.iter().any(|job| {
            job.kind != JobKind::RemovePoints
                && (job.guild, job.session) == (session.guild, id)
                && job.target_revision >= session.revision
        })
    };
    has_dead_job(state, id) || session(state, id, |session| session.awaits_backfill || is_targeted(session))
}

fn jobs_are_exclusive(_: &Config, state: &State) -> bool {
    state.jobs.iter().all(|job| {
        let has_same_key = |other: &&Job| {
            other.kind != JobKind::RemovePoints && (other.guild, other.session) == (job.guild, job.session)
        };
        let with_key = state.jobs.iter().filter(has_same_key).count();
        let claims =
            state.workers.iter().flatten().filter(|claimed| claimed.id == job.id && claimed.token != 0);
        with_key <= 1 && claims.count() <= 1 && (job.state == JobState::Running) == (job.token != 0)
    })
}
