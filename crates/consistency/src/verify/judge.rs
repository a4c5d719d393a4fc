//! What is wrong with a point or a session, if anything: decided from what was read, and nothing else.

use std::collections::HashMap;

use guildex_index::Mark;
use guildex_store::standing::{Here, Place, Standing};
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
    pub is_kept_in_step: bool,
}

/// What is wrong with a point that its session's own judgement does not see: that one looks at the points that the
/// books name.
pub(super) fn point(of: Owner<'_>, mark: &Mark, standing: &Standing) -> Option<Kind> {
    let here = match &standing.place {
        Place::Elsewhere => return Some(Kind::WrongGuild),
        Place::Nowhere => return Some(Kind::Orphaned),
        Place::Here(here) if !here.is_live => return Some(Kind::Orphaned),
        Place::Here(here) => here,
    };
    if !of.is_kept_in_step {
        return None;
    }
    if mark.channel_id != here.channel_id || mark.id != id(of, here, mark.chunk) {
        return Some(Kind::Misplaced);
    }
    match &here.book {
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
pub(super) fn expected(of: Owner<'_>, standing: &Standing) -> Vec<PointId> {
    match &standing.place {
        Place::Here(here) => {
            let points = here.book.as_ref().map_or(0, |book| book.points);
            (0..points.min(MOST_CHUNKS)).map(|chunk| id(of, here, chunk)).collect()
        }
        Place::Elsewhere | Place::Nowhere => Vec::new(),
    }
}

/// `marks` are those that were found of the [`expected`]; `hash` is that of the session as it is now, if it still is at
/// the revision of its standing.
pub(super) fn session(
    of: Owner<'_>,
    standing: &Standing,
    marks: &HashMap<PointId, Mark>,
    hash: Option<&[u8]>,
) -> Judged {
    // Removed a moment ago.
    let Place::Here(here) = &standing.place else { return Judged::Out };
    let book = match (&here.book, here.is_eligible) {
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
        } else if mark.session_id != standing.session_id || mark.chunk != chunk {
            worst = worst.or(Some(Kind::Misplaced));
        }
    }
    match worst {
        Some(kind) => Judged::Wrong(kind),
        None if hash.is_none() || book.content_hash.as_deref() != hash => Judged::Wrong(Kind::WrongHash),
        None => Judged::InStep,
    }
}

fn id(of: Owner<'_>, here: &Here, chunk: u32) -> PointId {
    PointId::of(of.guild, here.channel_id, here.first_message_id, of.model, chunk)
}

#[cfg(test)]
mod tests {
    use guildex_store::books::Book;
    use guildex_types::{ChannelId, MessageId, SessionId};

    use super::*;

    const HASH: &[u8] = b"hash";

    /// A session of two points that is in step, to be spoiled.
    struct Case {
        model: ModelSlug,
        standing: Standing,
        marks: Vec<Mark>,
        hash: Option<&'static [u8]>,
    }

    fn guild() -> GuildId {
        1.try_into().unwrap()
    }

    fn case() -> Case {
        let model: ModelSlug = "model".parse().unwrap();
        let (channel_id, first): (ChannelId, MessageId) = (2.try_into().unwrap(), 3.try_into().unwrap());
        let session_id = SessionId::of(guild(), channel_id, first);
        let book = Book {
            session_id,
            point_revision: 7.into(),
            indexed_revision: 8.into(),
            content_hash: Some(HASH.to_vec()),
            points: 2,
        };
        let here = Here {
            channel_id,
            first_message_id: first,
            revision: 8.into(),
            is_live: true,
            is_eligible: true,
            book: Some(book),
        };
        let marks = (0..2).map(|chunk| Mark {
            id: PointId::of(guild(), channel_id, first, &model, chunk),
            channel_id,
            session_id,
            chunk,
            revision: 7.into(),
        });
        let marks = marks.collect();
        let standing = Standing { session_id, place: Place::Here(here), is_busy: false };
        Case { model, standing, marks, hash: Some(HASH) }
    }

    impl Case {
        fn here(&mut self) -> &mut Here {
            match &mut self.standing.place {
                Place::Here(here) => here,
                place => panic!("{place:?}"),
            }
        }

        fn book(&mut self) -> &mut Book {
            self.here().book.as_mut().unwrap()
        }

        fn owner(&self) -> Owner<'_> {
            Owner { guild: guild(), model: &self.model, is_kept_in_step: true }
        }

        fn session(&self) -> Judged {
            let marks = self.marks.iter().map(|mark| (mark.id, mark.clone())).collect();
            session(self.owner(), &self.standing, &marks, self.hash)
        }

        fn points(&self) -> Vec<Option<Kind>> {
            self.marks.iter().map(|mark| point(self.owner(), mark, &self.standing)).collect()
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
        assert_eq!(
            expected(case.owner(), &case.standing),
            case.marks.iter().map(|m| m.id).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_session_is_judged_by_books_points_and_text() {
        let kind = |spoil: fn(&mut Case)| match spoiled(spoil).session() {
            Judged::Wrong(kind) => kind,
            fine => panic!("{fine:?}"),
        };
        assert_eq!(kind(|case| case.marks.truncate(1)), Kind::Missing);
        assert_eq!(kind(|case| case.here().book = None), Kind::Missing);
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
            case.here().book = None;
        });
        assert_eq!(case.session(), Judged::Out);
        assert_eq!(case.points(), [Some(Kind::Orphaned); 2]);
    }

    #[test]
    fn a_point_is_judged_by_its_place() {
        let last = |spoil: fn(&mut Case)| spoiled(spoil).points()[1];
        assert_eq!(last(|case| case.standing.place = Place::Nowhere), Some(Kind::Orphaned));
        assert_eq!(last(|case| case.standing.place = Place::Elsewhere), Some(Kind::WrongGuild));
        assert_eq!(last(|case| case.here().is_live = false), Some(Kind::Orphaned));
        assert_eq!(last(|case| case.marks[1].channel_id = 9.try_into().unwrap()), Some(Kind::Misplaced));
        assert_eq!(last(|case| case.marks[1].chunk = 0), Some(Kind::Misplaced));
        assert_eq!(last(|case| case.book().points = 1), Some(Kind::Orphaned));
        // What the session's own judgement sees is not told twice.
        assert_eq!(last(|case| case.marks[1].revision = 6.into()), None);
        assert_eq!(last(|case| case.here().book = None), None);
        let surplus = spoiled(|case| {
            case.book().points = 1;
            case.marks[1].revision = 6.into();
        });
        assert_eq!(surplus.points(), [None, Some(Kind::Stale)]);
    }

    #[test]
    fn a_collection_that_only_shrinks_is_wrong_where_it_holds_what_is_gone() {
        let mut case = case();
        case.here().book = None;
        case.here().is_eligible = false;
        let owner = |case: &Case| {
            point(Owner { is_kept_in_step: false, ..case.owner() }, &case.marks[0], &case.standing)
        };
        assert_eq!(owner(&case), None);
        case.here().is_live = false;
        assert_eq!(owner(&case), Some(Kind::Orphaned));
    }
}
