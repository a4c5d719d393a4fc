//! Compares a point or a session with its recorded state. Pure: no I/O.

use std::collections::HashMap;

use guildex_index::PointHeader;
use guildex_store::reconcile_view::{FoundSession, Lookup, SessionState};
use guildex_types::{GuildId, ModelSlug, PointId};

use super::report::DifferenceKind;

/// Upper bound of a session's chunks: a session is bounded in messages, and a message in characters.
const MAX_CHUNKS: u32 = 10_000;

/// Guild and model whose points are compared.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub guild: GuildId,
    pub model: &'a ModelSlug,
    /// Whether new sessions are indexed in the collection. Otherwise only orphaned points are differences.
    pub is_maintained: bool,
}

/// Finds a difference of a point. Leaves out those that [`session`] finds, which compares all recorded points of a
/// session.
pub(super) fn point(owner: Owner<'_>, header: &PointHeader, state: &SessionState) -> Option<DifferenceKind> {
    let here = match &state.lookup {
        Lookup::OtherGuild => return Some(DifferenceKind::WrongGuild),
        Lookup::NotFound => return Some(DifferenceKind::Orphaned),
        Lookup::Found(here) if !here.is_live => return Some(DifferenceKind::Orphaned),
        Lookup::Found(here) => here,
    };
    if !owner.is_maintained {
        return None;
    }
    if header.channel_id != here.channel_id || header.id != point_id(owner, here, header.chunk) {
        return Some(DifferenceKind::Misplaced);
    }
    match &here.indexed {
        Some(record) if header.chunk < record.points() => None,
        Some(record) if header.revision != record.point_revision => Some(DifferenceKind::Stale),
        Some(_) => Some(DifferenceKind::Orphaned),
        // If it is eligible but not recorded, the session is missing.
        None => (!here.is_eligible).then_some(DifferenceKind::Orphaned),
    }
}

/// Result of comparing a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not eligible and not recorded.
    NotIndexed,
    /// Indexed correctly.
    Consistent,
    /// Different from its recorded state.
    Different(DifferenceKind),
}

/// Ids of the recorded points.
pub(super) fn expected_points(owner: Owner<'_>, state: &SessionState) -> Vec<PointId> {
    match &state.lookup {
        Lookup::Found(here) => {
            let points = here.indexed.as_ref().map_or(0, |record| record.points());
            (0..points.min(MAX_CHUNKS)).map(|chunk| point_id(owner, here, chunk)).collect()
        }
        Lookup::OtherGuild | Lookup::NotFound => Vec::new(),
    }
}

/// Compares a session. `headers` are those found of the [`expected_points`]; `hash` is that of its current content if it is
/// still at the revision of its state.
pub(super) fn session(
    owner: Owner<'_>,
    state: &SessionState,
    headers: &HashMap<PointId, PointHeader>,
    hash: Option<&[u8]>,
) -> Verdict {
    // Deleted since the page was read.
    let Lookup::Found(here) = &state.lookup else { return Verdict::NotIndexed };
    let record = match (&here.indexed, here.is_eligible) {
        (None, false) => return Verdict::NotIndexed,
        (Some(_), false) => return Verdict::Different(DifferenceKind::Orphaned),
        (None, true) => return Verdict::Different(DifferenceKind::Missing),
        (Some(record), true) => record,
    };
    if record.points() == 0 || record.points() > MAX_CHUNKS {
        return Verdict::Different(DifferenceKind::Missing);
    }
    let mut kind = (record.indexed_revision != here.revision).then_some(DifferenceKind::Stale);
    for chunk in 0..record.points() {
        let Some(header) = headers.get(&point_id(owner, here, chunk)) else {
            return Verdict::Different(DifferenceKind::Missing);
        };
        if header.revision != record.point_revision {
            kind = kind.or(Some(DifferenceKind::Stale));
        } else if header.session_id != state.session_id || header.chunk != chunk {
            kind = kind.or(Some(DifferenceKind::Misplaced));
        }
    }
    match kind {
        Some(kind) => Verdict::Different(kind),
        None if hash.is_none() || record.content_hash.as_deref() != hash => {
            Verdict::Different(DifferenceKind::WrongHash)
        }
        None => Verdict::Consistent,
    }
}

fn point_id(owner: Owner<'_>, here: &FoundSession, chunk: u32) -> PointId {
    PointId::new(owner.guild, here.channel_id, here.first_message_id, owner.model, chunk)
}

#[cfg(test)]
mod tests {
    use guildex_store::indexed_sessions::IndexedSession;
    use guildex_types::{ChannelId, MessageId, SessionId};

    use super::*;

    const HASH: &[u8] = b"hash";

    /// Consistent session with two points, to be altered by a test.
    struct Case {
        model: ModelSlug,
        state: SessionState,
        headers: Vec<PointHeader>,
        hash: Option<&'static [u8]>,
    }

    fn guild() -> GuildId {
        1.try_into().unwrap()
    }

    fn case() -> Case {
        let model: ModelSlug = "model".parse().unwrap();
        let (channel_id, first): (ChannelId, MessageId) = (2.try_into().unwrap(), 3.try_into().unwrap());
        let session_id = SessionId::new(guild(), channel_id, first);
        let record = IndexedSession {
            session_id,
            point_revision: 7.into(),
            indexed_revision: 8.into(),
            content_hash: Some(HASH.to_vec()),
            point_ids: (0..2).map(|chunk| PointId::new(guild(), channel_id, first, &model, chunk)).collect(),
        };
        let here = FoundSession {
            channel_id,
            first_message_id: first,
            revision: 8.into(),
            is_live: true,
            is_eligible: true,
            indexed: Some(record),
        };
        let headers = (0..2).map(|chunk| PointHeader {
            id: PointId::new(guild(), channel_id, first, &model, chunk),
            channel_id,
            session_id,
            chunk,
            revision: 7.into(),
        });
        let headers = headers.collect();
        let state = SessionState { session_id, lookup: Lookup::Found(here), is_busy: false };
        Case { model, state, headers, hash: Some(HASH) }
    }

    impl Case {
        fn here(&mut self) -> &mut FoundSession {
            match &mut self.state.lookup {
                Lookup::Found(here) => here,
                place => panic!("{place:?}"),
            }
        }

        fn record(&mut self) -> &mut IndexedSession {
            self.here().indexed.as_mut().unwrap()
        }

        fn owner(&self) -> Owner<'_> {
            Owner { guild: guild(), model: &self.model, is_maintained: true }
        }

        fn session(&self) -> Verdict {
            let headers = self.headers.iter().map(|header| (header.id, header.clone())).collect();
            session(self.owner(), &self.state, &headers, self.hash)
        }

        fn points(&self) -> Vec<Option<DifferenceKind>> {
            self.headers.iter().map(|header| point(self.owner(), header, &self.state)).collect()
        }
    }

    fn altered(alter: impl FnOnce(&mut Case)) -> Case {
        let mut case = case();
        alter(&mut case);
        case
    }

    #[test]
    fn a_consistent_session_has_no_differences() {
        let case = case();
        assert_eq!(case.session(), Verdict::Consistent);
        assert_eq!(case.points(), [None, None]);
        assert_eq!(
            expected_points(case.owner(), &case.state),
            case.headers.iter().map(|header| header.id).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_session_is_compared_by_record_points_and_content() {
        let kind = |alter: fn(&mut Case)| match altered(alter).session() {
            Verdict::Different(kind) => kind,
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!(kind(|case| case.headers.truncate(1)), DifferenceKind::Missing);
        assert_eq!(kind(|case| case.here().indexed = None), DifferenceKind::Missing);
        assert_eq!(kind(|case| case.record().point_ids.clear()), DifferenceKind::Missing);
        assert_eq!(kind(|case| case.here().revision = 9.into()), DifferenceKind::Stale);
        assert_eq!(kind(|case| case.headers[1].revision = 6.into()), DifferenceKind::Stale);
        assert_eq!(kind(|case| case.headers[1].revision = 8.into()), DifferenceKind::Stale);
        assert_eq!(kind(|case| case.headers[1].chunk = 5), DifferenceKind::Misplaced);
        assert_eq!(kind(|case| case.record().content_hash = None), DifferenceKind::WrongHash);
        assert_eq!(kind(|case| case.hash = Some(b"other")), DifferenceKind::WrongHash);
        assert_eq!(kind(|case| case.here().is_eligible = false), DifferenceKind::Orphaned);
    }

    #[test]
    fn an_ineligible_session_without_points_is_skipped() {
        let case = altered(|case| {
            case.here().is_eligible = false;
            case.here().indexed = None;
        });
        assert_eq!(case.session(), Verdict::NotIndexed);
        assert_eq!(case.points(), [Some(DifferenceKind::Orphaned); 2]);
    }

    #[test]
    fn a_point_is_compared_by_session_channel_and_chunk() {
        let last = |alter: fn(&mut Case)| altered(alter).points()[1];
        assert_eq!(last(|case| case.state.lookup = Lookup::NotFound), Some(DifferenceKind::Orphaned));
        assert_eq!(last(|case| case.state.lookup = Lookup::OtherGuild), Some(DifferenceKind::WrongGuild));
        assert_eq!(last(|case| case.here().is_live = false), Some(DifferenceKind::Orphaned));
        assert_eq!(
            last(|case| case.headers[1].channel_id = 9.try_into().unwrap()),
            Some(DifferenceKind::Misplaced)
        );
        assert_eq!(last(|case| case.headers[1].chunk = 0), Some(DifferenceKind::Misplaced));
        assert_eq!(last(|case| case.record().point_ids.truncate(1)), Some(DifferenceKind::Orphaned));
        // Found by comparing the session, so not reported twice.
        assert_eq!(last(|case| case.headers[1].revision = 6.into()), None);
        assert_eq!(last(|case| case.here().indexed = None), None);
        let surplus = altered(|case| {
            case.record().point_ids.truncate(1);
            case.headers[1].revision = 6.into();
        });
        assert_eq!(surplus.points(), [None, Some(DifferenceKind::Stale)]);
    }

    #[test]
    fn an_unmaintained_collection_differs_only_in_orphaned_points() {
        let mut case = case();
        case.here().indexed = None;
        case.here().is_eligible = false;
        let first = |case: &Case| {
            point(Owner { is_maintained: false, ..case.owner() }, &case.headers[0], &case.state)
        };
        assert_eq!(first(&case), None);
        case.here().is_live = false;
        assert_eq!(first(&case), Some(DifferenceKind::Orphaned));
    }
}
