//! Reads points and sessions page by page and compares them.

use std::collections::{BTreeSet, HashMap};

use guildex_document::content_hash;
use guildex_index::{CollectionName, MAX_LIMIT, PointHeader, PointSelector, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::reconcile_view::{self, Lookup, SessionState};
use guildex_store::sessions;
use guildex_store::{StoreError, channels};
use guildex_types::{GuildId, ModelSlug, PointId, Revision, SessionId};

use super::diff::{self, Owner, Verdict};
use super::error::VerifyError;
use super::progress::ProgressCounter;
use super::repair::enqueue_repairs;
use super::report::{Finding, GuildReport};

/// Points per page.
const POINTS: usize = MAX_LIMIT;
/// Sessions per page. Their messages are loaded.
const SESSIONS: usize = 200;

/// Comparison of one collection with Postgres.
pub(super) struct CollectionScan<'a> {
    pub ingest: &'a Ingest,
    /// `None` if the collection does not exist, which counts as empty.
    pub collection: Option<(&'a dyn VectorIndex, &'a CollectionName)>,
    pub model: &'a ModelSlug,
    /// Whether new sessions are indexed in the collection. Otherwise nothing can be missing from it.
    pub is_maintained: bool,
    pub repair: bool,
    pub examples: usize,
}

impl CollectionScan<'_> {
    /// Compares one guild, or all guilds of the index and the database.
    pub async fn run(
        &self,
        only: Option<GuildId>,
        progress: &ProgressCounter<'_>,
    ) -> Result<Vec<GuildReport>, VerifyError> {
        let guilds = match only {
            Some(guild) => BTreeSet::from([guild]),
            None => self.guilds().await?,
        };
        for guild in &guilds {
            if let Some((index, name)) = self.collection {
                progress.expect(index.count(name, *guild).await? as u64);
            }
            if self.is_maintained {
                progress.expect(reconcile_view::count_live(self.ingest.pool(), *guild).await?);
            }
        }
        let mut reports = Vec::with_capacity(guilds.len());
        for guild in guilds {
            let mut scan = GuildScan { collection: self, guild, report: GuildReport::new(guild) };
            scan.points(progress).await?;
            if self.is_maintained {
                scan.sessions(progress).await?;
            }
            reports.push(scan.report);
        }
        Ok(reports)
    }

    async fn guilds(&self) -> Result<BTreeSet<GuildId>, VerifyError> {
        let mut guilds = BTreeSet::new();
        if let Some((index, name)) = self.collection {
            guilds.extend(index.guilds(name).await?);
        }
        let mut db = self.ingest.pool().acquire().await.map_err(StoreError::from)?;
        guilds.extend(channels::guilds(&mut db).await?);
        Ok(guilds)
    }
}

/// Comparison of one guild.
struct GuildScan<'a> {
    collection: &'a CollectionScan<'a>,
    guild: GuildId,
    report: GuildReport,
}

/// Possible difference, with the state of its session when it was read.
struct Candidate {
    finding: Finding,
    state: SessionState,
}

impl GuildScan<'_> {
    /// Compares every point of the index with its session in Postgres.
    async fn points(&mut self, progress: &ProgressCounter<'_>) -> Result<(), VerifyError> {
        let mut after = None;
        loop {
            let headers = self.headers(PointSelector::After(after, POINTS)).await?;
            let Some(last) = headers.last() else { return Ok(()) };
            after = Some(last.id);
            self.report.points += headers.len() as u64;
            let candidates = self.check_points(&headers).await?;
            let (busy, idle): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|candidate| candidate.state.is_busy);
            // Those of live sessions are counted with their sessions.
            self.report.in_progress +=
                busy.iter().filter(|candidate| !is_live(&candidate.state)).count() as u64;
            let ids: Vec<PointId> = idle.iter().filter_map(|candidate| candidate.finding.point_id).collect();
            if !ids.is_empty() {
                let again = self.check_points(&self.headers(PointSelector::Ids(&ids)).await?).await?;
                self.confirm(idle, again).await?;
            }
            progress.advance(headers.len());
        }
    }

    /// Compares every live session in Postgres with its points in the index.
    async fn sessions(&mut self, progress: &ProgressCounter<'_>) -> Result<(), VerifyError> {
        let mut after = None;
        loop {
            let pool = self.collection.ingest.pool();
            let page = reconcile_view::live(pool, self.guild, after, SESSIONS as i64).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let ids: Vec<SessionId> = page.iter().map(|(_, id)| *id).collect();
            let (consistent, candidates) = self.check_sessions(&ids).await?;
            let (busy, idle): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|candidate| candidate.state.is_busy);
            self.report.consistent += consistent;
            self.report.in_progress += busy.len() as u64;
            let ids: Vec<SessionId> = idle.iter().map(|candidate| candidate.finding.session_id).collect();
            if !ids.is_empty() {
                let (consistent, again) = self.check_sessions(&ids).await?;
                self.report.consistent += consistent;
                self.confirm(idle, again).await?;
            }
            progress.advance(page.len());
        }
    }

    /// Reports, and repairs if requested, what was different in both reads without a change or a job in between.
    async fn confirm(&mut self, before: Vec<Candidate>, again: Vec<Candidate>) -> Result<(), VerifyError> {
        let key = |finding: &Finding| (finding.session_id, finding.point_id);
        let before: HashMap<_, Candidate> =
            before.into_iter().map(|candidate| (key(&candidate.finding), candidate)).collect();
        let mut confirmed = Vec::new();
        for candidate in again {
            let is_unchanged = before
                .get(&key(&candidate.finding))
                .is_some_and(|first| first.state == candidate.state && first.finding == candidate.finding);
            if is_unchanged {
                confirmed.push(candidate.finding);
            } else {
                self.report.in_progress += 1;
            }
        }
        for finding in &confirmed {
            self.report.add(finding, self.collection.examples);
        }
        let CollectionScan { ingest, model, repair, .. } = *self.collection;
        if repair {
            let repairs = enqueue_repairs(ingest, self.guild, model, &confirmed).await?;
            self.report.to_index += repairs.to_index;
            self.report.to_remove += repairs.to_remove;
        }
        Ok(())
    }

    async fn check_points(&self, headers: &[PointHeader]) -> Result<Vec<Candidate>, VerifyError> {
        let mut sessions: Vec<SessionId> = headers.iter().map(|header| header.session_id).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let states = self.states(&sessions).await?;
        let states: HashMap<SessionId, SessionState> =
            states.into_iter().map(|state| (state.session_id, state)).collect();
        let candidate = |header: &PointHeader| {
            let state = states.get(&header.session_id)?;
            let kind = diff::point(self.owner(), header, state)?;
            let finding = Finding {
                kind,
                session_id: header.session_id,
                point_id: Some(header.id),
                highest_revision: header.revision,
            };
            Some(Candidate { finding, state: state.clone() })
        };
        Ok(headers.iter().filter_map(candidate).collect())
    }

    /// Returns the number of consistent sessions, and those with possible differences.
    async fn check_sessions(&self, ids: &[SessionId]) -> Result<(u64, Vec<Candidate>), VerifyError> {
        let states = self.states(ids).await?;
        let hashes = self.hashes(&states).await?;
        let expected: Vec<PointId> =
            states.iter().flat_map(|state| diff::expected_points(self.owner(), state)).collect();
        let mut headers = HashMap::with_capacity(expected.len());
        for ids in expected.chunks(MAX_LIMIT) {
            headers.extend(
                self.headers(PointSelector::Ids(ids)).await?.into_iter().map(|header| (header.id, header)),
            );
        }
        let (mut consistent, mut candidates) = (0, Vec::new());
        for state in states {
            let session_id = state.session_id;
            let hash = hashes.get(&session_id).map(Vec::as_slice);
            match diff::session(self.owner(), &state, &headers, hash) {
                Verdict::NotIndexed => {}
                Verdict::Consistent => consistent += 1,
                Verdict::Different(kind) => {
                    let expected = diff::expected_points(self.owner(), &state);
                    let revisions =
                        expected.iter().filter_map(|id| headers.get(id)).map(|header| header.revision);
                    let highest_revision = revisions.max().unwrap_or(Revision::NONE);
                    let finding = Finding { kind, session_id, point_id: None, highest_revision };
                    candidates.push(Candidate { finding, state });
                }
            }
        }
        Ok((consistent, candidates))
    }

    /// Content hashes of indexed sessions that have not changed since their state was read.
    async fn hashes(&self, states: &[SessionState]) -> Result<HashMap<SessionId, Vec<u8>>, VerifyError> {
        let CollectionScan { ingest, model, .. } = *self.collection;
        let revision = |state: &SessionState| match &state.lookup {
            Lookup::Found(here) if here.indexed.is_some() => Some((state.session_id, here.revision)),
            _ => None,
        };
        let revisions: HashMap<SessionId, Revision> = states.iter().filter_map(revision).collect();
        let ids: Vec<_> = revisions.keys().map(|session| (self.guild, *session)).collect();
        let loaded = sessions::load(ingest.pool(), &ids, model).await?;
        let unchanged = loaded.iter().filter(|session| revisions.get(&session.id) == Some(&session.revision));
        Ok(unchanged.map(|session| (session.id, content_hash(session, model))).collect())
    }

    async fn states(&self, sessions: &[SessionId]) -> Result<Vec<SessionState>, VerifyError> {
        let CollectionScan { ingest, model, .. } = *self.collection;
        let eligible = ingest.enqueuer().eligibility();
        Ok(reconcile_view::lookup(ingest.pool(), self.guild, model, eligible, sessions).await?)
    }

    async fn headers(&self, which: PointSelector<'_>) -> Result<Vec<PointHeader>, VerifyError> {
        match self.collection.collection {
            Some((index, name)) => Ok(index.headers(name, self.guild, which).await?),
            None => Ok(Vec::new()),
        }
    }

    fn owner(&self) -> Owner<'_> {
        let CollectionScan { model, is_maintained, .. } = *self.collection;
        Owner { guild: self.guild, model, is_maintained }
    }
}

fn is_live(state: &SessionState) -> bool {
    matches!(&state.lookup, Lookup::Found(here) if here.is_live)
}
