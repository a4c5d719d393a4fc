//! What must hold in every state that can be reached.

use stateright::Property;

use crate::drain::{is_at_rest, repaired};
use crate::{Book, Config, Content, JobState, Kind, Session, SessionId, State, drain};

/// From everywhere, if there are no more changes and faults: what holds at rest therefore holds in the end.
pub const ENDS: &str = "all work ends";
/// At rest, unless a dead job tells why not.
pub const IN_STEP: &str = "1 every live session is indexed at its latest revision, eventually";
/// From the moment a removal commits.
pub const HIDDEN: &str = "2 nothing that was removed is shown";
/// At rest; what a worker wrote that had lost its claim may stay until a repair.
pub const GONE: &str = "2 the points of what was removed are gone in the end";
/// A removal goes on until it is done, also where another job takes its place.
pub const NEVER_DIES: &str = "2 no removal dies";
/// Search, points and deletions keep to their guild.
pub const APART: &str = "3 no guild sees or holds another's";
/// Whatever is not done has somebody who will do it.
pub const OWED: &str = "4 no change is without its job, whatever ran twice or not at all";
/// One unfinished job a key, and one worker a claim.
pub const ALONE: &str = "4 a job is there once, and in one worker's hands";
/// At rest after a repair: points, books and truth agree, whatever was lost.
pub const REBUILT: &str = "5 what was lost is rebuilt";

pub(crate) fn all() -> Vec<Property<Config>> {
    vec![
        Property::always(ENDS, |config: &Config, state: &State| drain(config, state.clone()).is_some()),
        Property::always(IN_STEP, |config: &Config, state: &State| {
            !is_at_rest(config, state) || each(state, |s| is_in_step(state, s) || is_told_of(state, s))
        }),
        Property::always(HIDDEN, nothing_removed_is_shown),
        Property::always(GONE, |config: &Config, state: &State| {
            state.lapsed
                || !is_at_rest(config, state)
                || each(state, |s| holds_nothing_else(state, s) || is_told_of(state, s))
        }),
        Property::always(NEVER_DIES, |_: &Config, state: &State| {
            state.jobs.iter().all(|job| !(job.is_removal && job.mortal))
        }),
        Property::always(APART, no_point_is_of_another_guild),
        Property::always(OWED, |_: &Config, state: &State| {
            each(state, |session| is_settled(state, session) || has_job(state, session))
        }),
        Property::always(ALONE, is_alone),
        Property::always(REBUILT, |config: &Config, state: &State| {
            let is_whole = |end: State| each(&end, |s| is_in_step(&end, s) && holds_nothing_else(&end, s));
            !is_at_rest(config, state) || repaired(config, state.clone()).is_some_and(is_whole)
        }),
    ]
}

fn each(state: &State, holds: impl Fn(SessionId) -> bool) -> bool {
    (0..state.sessions.len()).all(holds)
}

fn of(state: &State, session: SessionId, holds: impl FnOnce(&Session) -> bool) -> bool {
    state.sessions.get(session).is_some_and(holds)
}

/// The books know the session as it is, and its points show that.
fn is_in_step(state: &State, session: SessionId) -> bool {
    of(state, session, |of_session| match of_session.book {
        None => !of_session.content.is_eligible(),
        Some(book) => {
            let mut shown = Content::NONE;
            let mut count = 0;
            for point in state.points(of_session.guild, session).filter(|p| p.revision == book.point_revision)
            {
                shown = shown.with(point.content);
                count += 1;
            }
            of_session.content.is_eligible()
                && book.indexed_revision == of_session.revision
                && (shown, count) == (of_session.content, book.points)
        }
    })
}

/// A dead job was to do it.
fn is_told_of(state: &State, session: SessionId) -> bool {
    of(state, session, |session| session.dead >= session.revision)
}

/// No point is there that the books do not name.
fn holds_nothing_else(state: &State, session: SessionId) -> bool {
    of(state, session, |of_session| {
        let named = of_session.book.map(|book| book.point_revision);
        state.points(of_session.guild, session).all(|point| Some(point.revision) == named)
    })
}

/// What `by_index` finds and `admitted` lets through shows nothing that is not in the session now.
fn nothing_removed_is_shown(config: &Config, state: &State) -> bool {
    let guilds = || state.sessions.iter().map(|session| session.guild);
    guilds().all(|guild| {
        each(state, |session| {
            of(state, session, |of_session| {
                state
                    .points(guild, session)
                    .filter(|point| of_session.admits(config, guild, point.revision))
                    .all(|point| of_session.content.holds(point.content))
            })
        })
    })
}

fn no_point_is_of_another_guild(_: &Config, state: &State) -> bool {
    let ids = state.index.iter().flat_map(|index| index.keys());
    ids.into_iter().all(|id| of(state, id.session, |session| session.guild == id.guild))
}

/// Books and truth agree: nothing is to be done.
fn is_settled(state: &State, session: SessionId) -> bool {
    of(state, session, |session| match session.book {
        None => !session.content.is_eligible(),
        Some(Book { indexed_revision, .. }) => {
            session.content.is_eligible() && indexed_revision == session.revision
        }
    })
}

/// A job will reach the session's revision, or a backfill will ask for one, or a dead job tells of it.
fn has_job(state: &State, session: SessionId) -> bool {
    let will = |of_session: &Session| {
        state.jobs.iter().any(|job| {
            job.kind != Kind::Remove
                && (job.guild, job.session) == (of_session.guild, session)
                && job.wanted >= of_session.revision
        })
    };
    is_told_of(state, session) || of(state, session, |s| s.is_asked_for || will(s))
}

fn is_alone(_: &Config, state: &State) -> bool {
    state.jobs.iter().all(|job| {
        let same = |other: &&crate::Job| (other.guild, other.session) == (job.guild, job.session);
        let of_key = state.jobs.iter().filter(|other| other.kind != Kind::Remove).filter(same).count();
        let holders =
            state.workers.iter().flatten().filter(|held| held.id == job.id && held.token != 0).count();
        of_key <= 1 && holders <= 1 && (job.state == JobState::Running) == (job.token != 0)
    })
}
