//! The two walks through a guild, a page at a time.

use std::collections::HashMap;

use guildex_document::content_hash;
use guildex_index::{MAX_LIMIT, Mark, Which};
use guildex_store::reconcile_view::{self, Lookup, SessionState};
use guildex_store::sessions;
use guildex_types::{GuildId, PointId, Revision, SessionId};

use super::judge::{self, Judged, Owner};
use super::report::{Finding, GuildReport};
use super::{Comparison, Counter, VerifyError};

/// Points looked at together.
const POINTS: usize = MAX_LIMIT;
/// Sessions looked at together: their messages are read.
const SESSIONS: usize = 200;

pub(super) struct Walk<'a> {
    pub of: &'a Comparison<'a>,
    pub guild: GuildId,
    pub report: GuildReport,
}

/// What looks wrong, and how its session stood then.
struct Suspect {
    finding: Finding,
    state: SessionState,
}

impl Walk<'_> {
    /// From the index to the truth: every point that there is.
    pub async fn points(&mut self, counter: &Counter<'_>) -> Result<(), VerifyError> {
        let mut after = None;
        loop {
            let marks = self.marks(Which::After(after, POINTS)).await?;
            let Some(last) = marks.last() else { return Ok(()) };
            after = Some(last.id);
            self.report.points += marks.len() as u64;
            let suspects = self.suspect_points(&marks).await?;
            let (busy, idle): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|s| s.state.is_busy);
            // The others count where their sessions do.
            self.report.in_progress += busy.iter().filter(|suspect| !is_live(&suspect.state)).count() as u64;
            let ids: Vec<PointId> = idle.iter().filter_map(|suspect| suspect.finding.point_id).collect();
            if !ids.is_empty() {
                let again = self.suspect_points(&self.marks(Which::Ids(&ids)).await?).await?;
                self.settle(idle, again).await?;
            }
            counter.count(marks.len());
        }
    }

    /// From the truth to the index: every session that lives.
    pub async fn sessions(&mut self, counter: &Counter<'_>) -> Result<(), VerifyError> {
        let mut after = None;
        loop {
            let page =
                reconcile_view::live(self.of.ingest.pool(), self.guild, after, SESSIONS as i64).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let ids: Vec<SessionId> = page.iter().map(|(_, id)| *id).collect();
            let (in_step, suspects) = self.suspect_sessions(&ids).await?;
            let (busy, idle): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|s| s.state.is_busy);
            self.report.in_step += in_step;
            self.report.in_progress += busy.len() as u64;
            let ids: Vec<SessionId> = idle.iter().map(|suspect| suspect.finding.session_id).collect();
            if !ids.is_empty() {
                let (in_step, again) = self.suspect_sessions(&ids).await?;
                self.report.in_step += in_step;
                self.settle(idle, again).await?;
            }
            counter.count(page.len());
        }
    }

    /// What looked wrong twice, with nobody at work on it and nothing changed in between, is wrong.
    async fn settle(&mut self, before: Vec<Suspect>, again: Vec<Suspect>) -> Result<(), VerifyError> {
        let place = |finding: &Finding| (finding.session_id, finding.point_id);
        let before: HashMap<_, Suspect> =
            before.into_iter().map(|suspect| (place(&suspect.finding), suspect)).collect();
        let mut wrong = Vec::new();
        for suspect in again {
            let first = before.get(&place(&suspect.finding));
            if first.is_some_and(|first| first.state == suspect.state && first.finding == suspect.finding) {
                wrong.push(suspect.finding);
            } else {
                self.report.in_progress += 1;
            }
        }
        for finding in &wrong {
            self.report.add(finding, self.of.examples);
        }
        if self.of.repair { self.mend(&wrong).await } else { Ok(()) }
    }

    async fn suspect_points(&self, marks: &[Mark]) -> Result<Vec<Suspect>, VerifyError> {
        let mut sessions: Vec<SessionId> = marks.iter().map(|mark| mark.session_id).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let states = self.states(&sessions).await?;
        let states: HashMap<SessionId, SessionState> =
            states.into_iter().map(|state| (state.session_id, state)).collect();
        let suspect = |mark: &Mark| {
            let state = states.get(&mark.session_id)?;
            let kind = judge::point(self.owner(), mark, state)?;
            let (session_id, point_id, seen) = (mark.session_id, Some(mark.id), mark.revision);
            Some(Suspect { finding: Finding { kind, session_id, point_id, seen }, state: state.clone() })
        };
        Ok(marks.iter().filter_map(suspect).collect())
    }

    /// How many of the sessions are in step, and which of them do not seem to be.
    async fn suspect_sessions(&self, ids: &[SessionId]) -> Result<(u64, Vec<Suspect>), VerifyError> {
        let states = self.states(ids).await?;
        let hashes = self.hashes(&states).await?;
        let expected: Vec<PointId> =
            states.iter().flat_map(|state| judge::expected(self.owner(), state)).collect();
        let mut marks = HashMap::with_capacity(expected.len());
        for ids in expected.chunks(MAX_LIMIT) {
            marks.extend(self.marks(Which::Ids(ids)).await?.into_iter().map(|mark| (mark.id, mark)));
        }
        let (mut in_step, mut suspects) = (0, Vec::new());
        for state in states {
            let session_id = state.session_id;
            let hash = hashes.get(&session_id).map(Vec::as_slice);
            match judge::session(self.owner(), &state, &marks, hash) {
                Judged::Out => {}
                Judged::InStep => in_step += 1,
                Judged::Wrong(kind) => {
                    let named = judge::expected(self.owner(), &state);
                    let seen = named.iter().filter_map(|id| marks.get(id)).map(|mark| mark.revision).max();
                    let seen = seen.unwrap_or(Revision::NONE);
                    suspects
                        .push(Suspect { finding: Finding { kind, session_id, point_id: None, seen }, state });
                }
            }
        }
        Ok((in_step, suspects))
    }

    /// The hashes of sessions that are in the books and still are as they stood.
    async fn hashes(&self, states: &[SessionState]) -> Result<HashMap<SessionId, Vec<u8>>, VerifyError> {
        let revision = |state: &SessionState| match &state.lookup {
            Lookup::Found(here) if here.indexed.is_some() => Some((state.session_id, here.revision)),
            _ => None,
        };
        let stood: HashMap<SessionId, Revision> = states.iter().filter_map(revision).collect();
        let wanted: Vec<_> = stood.keys().map(|session| (self.guild, *session)).collect();
        let loaded = sessions::load(self.of.ingest.pool(), &wanted, self.of.model).await?;
        let same = loaded.iter().filter(|session| stood.get(&session.id) == Some(&session.revision));
        Ok(same.map(|session| (session.id, content_hash(session, self.of.model))).collect())
    }

    async fn states(&self, sessions: &[SessionId]) -> Result<Vec<SessionState>, VerifyError> {
        let Comparison { ingest, model, .. } = self.of;
        let eligible = ingest.enqueuer().eligibility();
        Ok(reconcile_view::lookup(ingest.pool(), self.guild, model, eligible, sessions).await?)
    }

    async fn marks(&self, which: Which<'_>) -> Result<Vec<Mark>, VerifyError> {
        match self.of.collection {
            Some((index, name)) => Ok(index.marks(name, self.guild, which).await?),
            None => Ok(Vec::new()),
        }
    }

    fn owner(&self) -> Owner<'_> {
        let Comparison { model, is_maintained, .. } = *self.of;
        Owner { guild: self.guild, model, is_maintained }
    }
}

fn is_live(state: &SessionState) -> bool {
    matches!(&state.lookup, Lookup::Found(here) if here.is_live)
}
