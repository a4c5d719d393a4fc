//! What is wrong with a point or a session, if anything: decided from what was read, and nothing else.

use std::collections::HashMap;

use guildex_index::PointHeader;
use guildex_store::reconcile_view::{FoundSession, Lookup, SessionState};
use guildex_types::{GuildId, ModelSlug, PointId};

use super::report::Kind;

/// More chunks than any session has: it is bounded in messages, and a message in characters.
const MOST_CHUNKS: u32 = 10_000;

/// Whose points they are.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub guild: GuildId,
    pub model: &'a ModelSlug,
    /// Whether the collection is kept in step; of one that only shrinks nothing but the gone is wrong.
    pub is_maintained: bool,
}

/// What is wrong with a point that its session's own judgement does not see: that one looks at the points that the
/// books name.
pub(super) fn point(of: Owner<'_>, mark: &PointHeader, state: &SessionState) -> Option<Kind> {
    let here = match &state.lookup {
        Lookup::OtherGuild => return Some(Kind::WrongGuild),
        Lookup::NotFound => return Some(Kind::Orphaned),
        Lookup::Found(here) if !here.is_live => return Some(Kind::Orphaned),
        Lookup::Found(here) => here,
    };
    if !of.is_maintained {
        return None;
    }
    if mark.channel_id != here.channel_id || mark.id != id(of, here, mark.chunk) {
        return Some(Kind::Misplaced);
    }
    match &here.indexed {
        Some(book) if mark.chunk < book.points => None,
        Some(book) if mark.revision != book.point_revision => Some(Kind::Stale),
        Some(_) => Some(Kind::Orphaned),
        // Worth a place and not in the books: the session is missing.
        None => (!here.is_eligible).then_some(Kind::Orphaned),
    }
}

/// How a session of the guild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is not to be in the collection, and the books agree.
    Out,
    /// It is in the collection as it ought to be.
    InStep,
    /// It is not.
    Wrong(Kind),
}

/// The ids of the points that the books name.
pub(super) fn expected(of: Owner<'_>, state: &SessionState) -> Vec<PointId> {
    match &state.lookup {
        Lookup::Found(here) => {
            let points = here.indexed.as_ref().map_or(0, |book| book.points);
            (0..points.min(MOST_CHUNKS)).map(|chunk| id(of, here, chunk)).collect()
        }
        Lookup::OtherGuild | Lookup::NotFound => Vec::new(),
    }
}

/// `marks` are those that were found of the [`expected`]; `hash` is that of the session as it is now, if it still is at
/// the revision of its state.
pub(super) fn session(
    of: Owner<'_>,
    state: &SessionState,
    marks: &HashMap<PointId, PointHeader>,
    hash: Option<&[u8]>,
) -> Judged {
    // Removed a moment ago.
    let Lookup::Found(here) = &state.lookup else { return Judged::Out };
    let book = match (&here.indexed, here.is_eligible) {
        (None, false) => return Judged::Out,
        (Some(_), false) => return Judged::Wrong(Kind::Orphaned),
        (None, true) => return Judged::Wrong(Kind::Missing),
        (Some(book), true) => book,
    };
    if book.points == 0 || book.points > MOST_CHUNKS {
        return Judged::Wrong(Kind::Missing);
    }
    let mut worst = (book.indexed_revision != here.revision).then_some(Kind::Stale);
    for chunk in 0..book.points {
        let Some(mark) = marks.get(&id(of, here, chunk)) else { return Judged::Wrong(Kind::Missing) };
        if mark.revision != book.point_revision {
            worst = worst.or(Some(Kind::Stale));
        } else if mark.session_id != state.session_id || mark.chunk != chunk {
            worst = worst.or(Some(Kind::Misplaced));
        }
    }
    match worst {
        Some(kind) => Judged::Wrong(kind),
        None if hash.is_none() || book.content_hash.as_deref() != hash => Judged::Wrong(Kind::WrongHash),
        None => Judged::InStep,
    }
}

fn id(of: Owner<'_>, here: &FoundSession, chunk: u32) -> PointId {
    PointId::new(of.guild, here.channel_id, here.first_message_id, of.model, chunk)
}

#[cfg(test)]
mod tests {
    use guildex_store::indexed_sessions::IndexedSession;
    use guildex_types::{ChannelId, MessageId, SessionId};

    use super::*;

    const HASH: &[u8] = b"hash";

    /// A session of two points that is in step, to be spoiled.
    struct Case {
        model: ModelSlug,
        state: SessionState,
        marks: Vec<PointHeader>,
        hash: Option<&'static [u8]>,
    }

    fn guild() -> GuildId {
        1.try_into().unwrap()
    }

    fn case() -> Case {
        let model: ModelSlug = "model".parse().unwrap();
        let (channel_id, first): (ChannelId, MessageId) = (2.try_into().unwrap(), 3.try_into().unwrap());
        let session_id = SessionId::new(guild(), channel_id, first);
        let book = IndexedSession {
            session_id,
            point_revision: 7.into(),
            indexed_revision: 8.into(),
            content_hash: Some(HASH.to_vec()),
            points: 2,
        };
        let here = FoundSession {
            channel_id,
            first_message_id: first,
            revision: 8.into(),
            is_live: true,
            is_eligible: true,
            indexed: Some(book),
        };
        let marks = (0..2).map(|chunk| PointHeader {
            id: PointId::new(guild(), channel_id, first, &model, chunk),
            channel_id,
            session_id,
            chunk,
            revision: 7.into(),
        });
        let marks = marks.collect();
        let state = SessionState { session_id, lookup: Lookup::Found(here), is_busy: false };
        Case { model, state, marks, hash: Some(HASH) }
    }

    impl Case {
        fn here(&mut self) -> &mut FoundSession {
            match &mut self.state.lookup {
                Lookup::Found(here) => here,
                place => panic!("{place:?}"),
            }
        }

        fn book(&mut self) -> &mut IndexedSession {
            self.here().indexed.as_mut().unwrap()
        }

        fn owner(&self) -> Owner<'_> {
            Owner { guild: guild(), model: &self.model, is_maintained: true }
        }

        fn session(&self) -> Judged {
            let marks = self.marks.iter().map(|mark| (mark.id, mark.clone())).collect();
            session(self.owner(), &self.state, &marks, self.hash)
        }

        fn points(&self) -> Vec<Option<Kind>> {
            self.marks.iter().map(|mark| point(self.owner(), mark, &self.state)).collect()
        }
    }

    fn spoiled(spoil: impl FnOnce(&mut Case)) -> Case {
        let mut case = case();
        spoil(&mut case);
        case
    }

    #[test]
    fn what_is_in_step_is_found_to_be() {
        let case = case();
        assert_eq!(case.session(), Judged::InStep);
        assert_eq!(case.points(), [None, None]);
        assert_eq!(expected(case.owner(), &case.state), case.marks.iter().map(|m| m.id).collect::<Vec<_>>());
    }

    #[test]
    fn a_session_is_judged_by_books_points_and_text() {
        let kind = |spoil: fn(&mut Case)| match spoiled(spoil).session() {
            Judged::Wrong(kind) => kind,
            fine => panic!("{fine:?}"),
        };
        assert_eq!(kind(|case| case.marks.truncate(1)), Kind::Missing);
        assert_eq!(kind(|case| case.here().indexed = None), Kind::Missing);
        assert_eq!(kind(|case| case.book().points = 0), Kind::Missing);
        assert_eq!(kind(|case| case.book().points = u32::MAX), Kind::Missing);
        assert_eq!(kind(|case| case.here().revision = 9.into()), Kind::Stale);
        assert_eq!(kind(|case| case.marks[1].revision = 6.into()), Kind::Stale);
        assert_eq!(kind(|case| case.marks[1].revision = 8.into()), Kind::Stale);
        assert_eq!(kind(|case| case.marks[1].chunk = 5), Kind::Misplaced);
        assert_eq!(kind(|case| case.book().content_hash = None), Kind::WrongHash);
        assert_eq!(kind(|case| case.hash = Some(b"other")), Kind::WrongHash);
        assert_eq!(kind(|case| case.here().is_eligible = false), Kind::Orphaned);
    }

    #[test]
    fn a_session_that_is_not_worth_a_place_and_has_none_is_passed_over() {
        let case = spoiled(|case| {
            case.here().is_eligible = false;
            case.here().indexed = None;
        });
        assert_eq!(case.session(), Judged::Out);
        assert_eq!(case.points(), [Some(Kind::Orphaned); 2]);
    }

    #[test]
    fn a_point_is_judged_by_its_place() {
        let last = |spoil: fn(&mut Case)| spoiled(spoil).points()[1];
        assert_eq!(last(|case| case.state.lookup = Lookup::NotFound), Some(Kind::Orphaned));
        assert_eq!(last(|case| case.state.lookup = Lookup::OtherGuild), Some(Kind::WrongGuild));
        assert_eq!(last(|case| case.here().is_live = false), Some(Kind::Orphaned));
        assert_eq!(last(|case| case.marks[1].channel_id = 9.try_into().unwrap()), Some(Kind::Misplaced));
        assert_eq!(last(|case| case.marks[1].chunk = 0), Some(Kind::Misplaced));
        assert_eq!(last(|case| case.book().points = 1), Some(Kind::Orphaned));
        // What the session's own judgement sees is not told twice.
        assert_eq!(last(|case| case.marks[1].revision = 6.into()), None);
        assert_eq!(last(|case| case.here().indexed = None), None);
        let surplus = spoiled(|case| {
            case.book().points = 1;
            case.marks[1].revision = 6.into();
        });
        assert_eq!(surplus.points(), [None, Some(Kind::Stale)]);
    }

    #[test]
    fn a_collection_that_only_shrinks_is_wrong_where_it_holds_what_is_gone() {
        let mut case = case();
        case.here().indexed = None;
        case.here().is_eligible = false;
        let owner =
            |case: &Case| point(Owner { is_maintained: false, ..case.owner() }, &case.marks[0], &case.state);
        assert_eq!(owner(&case), None);
        case.here().is_live = false;
        assert_eq!(owner(&case), Some(Kind::Orphaned));
    }
}
