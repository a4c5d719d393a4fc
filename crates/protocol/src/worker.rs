//! A worker's way through one job, as `guildex_worker`'s pipeline goes it.

use crate::index::{self, PointId};
use crate::truth::Read;
use crate::{Book, Config, Flaw, GuildId, JobId, Kind, Point, Revision, SessionId, State};

/// A job in a worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// Its row.
    pub id: JobId,
    /// The proof of the claim; void once another has the job.
    pub token: u8,
    /// From its payload.
    pub guild: GuildId,
    /// From its payload.
    pub session: SessionId,
    /// From its payload.
    pub kind: Kind,
    /// The wanted revision at the claim.
    pub wanted: Revision,
    /// Whether another index took the place of the one that there was at the claim.
    pub index_replaced: bool,
    /// What is done so far.
    pub at: At,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Claimed.
    Claimed,
    /// The session is read.
    Loaded(Read),
    /// The rewrite is announced, and so many chunks are written.
    Writing(Read, usize),
    /// All chunks are written; those of lower revisions are to go.
    Removing(Read),
    /// The points are as they should be; the books are to be told.
    Recording(Read),
    /// The ledger is to be told.
    Ending(Outcome),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// In step with this revision.
    Done(Revision),
    /// To be done again.
    LetGo,
}

/// What is to be done about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Its points go.
    Remove,
    /// Only the books change.
    Keep(Book),
    /// Its points are made anew.
    Write,
}

impl Plan {
    /// `read::plan`.
    pub(crate) fn of(read: &Read) -> Self {
        match read.book {
            _ if !read.content.is_eligible() => Self::Remove,
            Some(book) if book.content_hash == Some(read.content) => Self::Keep(book),
            _ => Self::Write,
        }
    }
}

/// Takes a worker one step on, up to the step that tells the ledger; none if it cannot go on now.
pub(crate) fn go_on(config: &Config, state: &mut State, held: &Held) -> Option<At> {
    let (guild, session) = (held.guild, held.session);
    Some(match held.at {
        At::Claimed if held.kind == Kind::Remove => {
            index::delete_below(config, state.index.as_mut()?, guild, session, held.wanted);
            At::Ending(Outcome::Done(held.wanted))
        }
        At::Claimed => match state.sessions.get(session)?.load(config, guild) {
            Some(read) => At::Loaded(read),
            None => At::Ending(Outcome::Done(held.wanted)),
        },
        At::Loaded(read) => match Plan::of(&read) {
            Plan::Keep(_) => At::Recording(read),
            _ if !state.sessions.get_mut(session)?.begin_rewrite(config, read.revision) => {
                At::Ending(reached(held, &read))
            }
            Plan::Write => At::Writing(read, 0),
            Plan::Remove => At::Removing(read),
        },
        At::Writing(read, chunk) => {
            let content = read.content.chunks().nth(chunk)?;
            let point = Point { revision: read.revision, content };
            index::upsert(config, state.index.as_mut()?, PointId { guild, session, chunk }, point);
            let is_last = read.content.chunks().count() == chunk + 1;
            if is_last { At::Removing(read) } else { At::Writing(read, chunk + 1) }
        }
        At::Removing(read) => {
            index::delete_below(config, state.index.as_mut()?, guild, session, read.revision);
            At::Recording(read)
        }
        At::Recording(read) => At::Ending(record(config, state, held, &read)?),
        At::Ending(_) => return None,
    })
}

/// `write::record` and `sessions::record`.
fn record(config: &Config, state: &mut State, held: &Held, read: &Read) -> Option<Outcome> {
    if held.index_replaced && !config.has(Flaw::RecordOfAnyIndex) {
        return Some(Outcome::LetGo);
    }
    let book = match Plan::of(read) {
        Plan::Remove => None,
        Plan::Keep(book) => Some(Book { indexed_revision: read.revision, ..book }),
        Plan::Write => Some(Book {
            point_revision: read.revision,
            indexed_revision: read.revision,
            content_hash: Some(read.content),
            points: u8::try_from(read.content.chunks().count()).ok()?,
        }),
    };
    state.sessions.get_mut(held.session)?.record(config, read.revision, book);
    Some(reached(held, read))
}

/// The session is in step with what was read, which was read after all that was wanted at the claim was asked for.
fn reached(held: &Held, read: &Read) -> Outcome {
    Outcome::Done(read.revision.max(held.wanted))
}
