//! Search in a model's collection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use guildex_embed::{Embedder, ModelError};
use guildex_index::bm25::{self, Language};
use guildex_index::{self as index, CollectionName, Hit, Mode, Query};
use guildex_store::channels;
use guildex_store::models::{self, ModelState};
use guildex_store::search::{self, HitKey, Shown};
use guildex_types::{MessageId, ModelSlug, SessionId};

use crate::deadline::Deadline;
use crate::error::{Dependency, SearchError};
use crate::phrase::Phrase;
use crate::present::RankedSession;
use crate::request::{InvalidRequest, MAX_DEPTH, ValidatedRequest};
use crate::response::SearchResponse;
use crate::searcher::Searcher;

/// Points that a search ranks, independent of the requested page: scores depend on ranks, so another number would change the
/// order. Twice the number of sessions, because some points are chunks of one session and some are out of date.
const CANDIDATE_POINTS: usize = 2 * MAX_DEPTH;

/// Best sessions that are checked for the exact phrase. A message with the phrase has all words of the query, so its
/// session is among the best already.
const PHRASE_DEPTH: usize = 50;

/// Session with at least one hit.
struct Candidate {
    /// Hits, best first; never empty.
    hits: Vec<Hit>,
    score: f32,
    key: HitKey,
}

impl Searcher {
    /// Searches the collection of the active model, or of the model in the request.
    pub(crate) async fn vector_search(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
    ) -> Result<SearchResponse, SearchError> {
        let model = self.model(request, deadline).await?;
        match self.search_collection(request, deadline, &model).await {
            // Another model was activated and this one's collection deleted. That does not happen twice in a row.
            Err(SearchError::Index(index::Error::NoCollection(_))) => {
                let model = self.model(request, deadline).await?;
                self.search_collection(request, deadline, &model).await
            }
            outcome => outcome,
        }
    }

    /// Reads the model to search with from Postgres.
    async fn model(&self, request: &ValidatedRequest, deadline: &Deadline) -> Result<ModelSlug, SearchError> {
        let known = deadline.within(Dependency::Postgres, models::list(&self.pool)).await?;
        let Some(requested) = &request.model else {
            let active = known.into_iter().find(|model| model.state == ModelState::Active);
            return Ok(active.ok_or(SearchError::NothingIndexed)?.slug);
        };
        let maintained = known.into_iter().filter(|model| model.state.is_maintained());
        let slugs: Vec<String> = maintained.map(|model| model.slug.to_string()).collect();
        if slugs.iter().any(|slug| slug == requested.as_str()) {
            return Ok(requested.clone());
        }
        let available = if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") };
        Err(InvalidRequest::Model { model: requested.clone(), available }.into())
    }

    async fn search_collection(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
    ) -> Result<SearchResponse, SearchError> {
        let collection = CollectionName::new(&self.collection_prefix, model)?;
        let language = channels::language(&self.pool, request.scope.tenant());
        let language = deadline.within(Dependency::Postgres, language).await?;
        // A later version may have written a language that this one does not know: then words are not stemmed.
        let language: Language = language.as_deref().unwrap_or_default().parse().unwrap_or_default();
        let query = Query {
            dense: match request.mode {
                Mode::Sparse => Vec::new(),
                Mode::Dense | Mode::Hybrid => self.embed(request, deadline, model).await?,
            },
            bm25: bm25::query(request.query.as_str(), language),
            mode: request.mode,
            fusion: self.config.fusion,
            filter: request.filter.clone(),
            // In hybrid mode an exact phrase may raise a score above the minimum.
            min_score: request.min_score.filter(|_| request.mode != Mode::Hybrid),
            limit: 0,
            exact: false,
        };
        let mut candidates = self.candidates(request, deadline, model, &collection, query).await?;
        self.boost_exact_phrases(request, deadline, model, &mut candidates).await?;
        candidates.retain(|candidate| request.min_score.is_none_or(|min| candidate.score >= min));

        let page = request.page(candidates);
        let keys: Vec<HitKey> = page.iter().map(|candidate| candidate.key).collect();
        let sessions = self.sessions(request, deadline, model, &keys).await?;
        let ranked = page.into_iter().filter_map(Candidate::into_ranked).collect();
        let results = self.present(request, deadline, ranked, &sessions).await?;
        Ok(SearchResponse { results, model: Some(model.clone()), degraded: false, reason: None })
    }

    async fn embed(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
    ) -> Result<Vec<f32>, SearchError> {
        let (models, slug) = (Arc::clone(&self.models), model.clone());
        // If loading takes longer than the timeout, it continues for later searches.
        let loading = tokio::spawn(async move { models.get(&slug).await });
        let loaded = async { loading.await.unwrap_or_else(|_| Err(ModelError::Panicked(model.clone()))) };
        let embedder: Arc<dyn Embedder> = deadline.within(Dependency::Model, loaded).await?;
        deadline.within(Dependency::Model, embedder.embed_query(request.query.as_str().to_owned())).await
    }

    /// Returns the sessions with valid hits, best first, ties ordered by key, so that all pages see the same order.
    async fn candidates(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        collection: &CollectionName,
        mut query: Query,
    ) -> Result<Vec<Candidate>, SearchError> {
        // After many deletions, many points may be out of date: then all pages need more points.
        for limit in [CANDIDATE_POINTS, index::MAX_LIMIT] {
            query.limit = limit;
            let search = self.index.search(collection, &request.scope, query.clone());
            let hits = deadline.within(Dependency::Index, search).await?;
            let exhausted = hits.len() < limit;
            let hits = self.retain_valid(request, deadline, model, collection, hits).await?;
            let candidates = group_by_session(hits);
            if exhausted || candidates.len() >= MAX_DEPTH || limit == index::MAX_LIMIT {
                return Ok(candidates);
            }
        }
        Ok(Vec::new())
    }

    /// Keeps the hits that Postgres confirms: live sessions of the scope at their recorded revision.
    async fn retain_valid(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        collection: &CollectionName,
        mut hits: Vec<Hit>,
    ) -> Result<Vec<Hit>, SearchError> {
        // The index filters by scope; defence in depth against leaks between tenants.
        hits.retain(|hit| request.scope.admits(hit.guild_id, hit.channel_id));
        if hits.is_empty() {
            return Ok(hits);
        }
        let keys: Vec<HitKey> = hits.iter().map(key).collect();
        let (guild, channels) = (request.scope.tenant(), request.scope.channels());
        let valid = search::visible(&self.pool, guild, channels, &keys, model);
        let valid = deadline.within(Dependency::Postgres, valid).await?;
        // A deleted model's records go before its collection, so no hit of it is valid any more.
        if valid.is_empty() {
            let known = deadline.within(Dependency::Postgres, models::list(&self.pool)).await?;
            if !known.iter().any(|known| known.slug == *model) {
                return Err(index::Error::NoCollection(collection.clone()).into());
            }
        }
        hits.retain(|hit| valid.contains(&key(hit)));
        Ok(hits)
    }

    /// Adds the weight of one more first place to each chunk that contains the exact query, and sorts again.
    async fn boost_exact_phrases(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        candidates: &mut [Candidate],
    ) -> Result<(), SearchError> {
        let phrase = Phrase::new(request.query.as_str());
        if request.mode != Mode::Hybrid || !phrase.is_some() {
            return Ok(());
        }
        let first_place = self.config.fusion.first_place();
        let best: Vec<HitKey> = candidates.iter().take(PHRASE_DEPTH).map(|c| c.key).collect();
        let sessions = self.sessions(request, deadline, model, &best).await?;
        for candidate in candidates.iter_mut().take(PHRASE_DEPTH) {
            let Some(session) = sessions.get(&candidate.key.0) else { continue };
            let matching = session.messages.iter().filter(|message| phrase.matches(message));
            let matching: HashSet<MessageId> = matching.map(|message| message.id).collect();
            candidate.boost(first_place, |hit| hit.message_ids.iter().any(|id| matching.contains(id)));
        }
        sort(candidates);
        Ok(())
    }

    /// Reads sessions with their messages from Postgres, if they are still valid.
    async fn sessions(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        keys: &[HitKey],
    ) -> Result<HashMap<SessionId, Shown>, SearchError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let scope = &request.scope;
        let sessions = search::show(&self.pool, scope.tenant(), scope.channels(), keys, model);
        let sessions = deadline.within(Dependency::Postgres, sessions).await?;
        Ok(sessions.into_iter().map(|session| (session.id, session)).collect())
    }
}

impl Candidate {
    /// Adds a bonus to the matching hits.
    fn boost(&mut self, bonus: f32, matches: impl Fn(&Hit) -> bool) {
        for hit in self.hits.iter_mut().filter(|hit| matches(hit)) {
            hit.score += bonus;
        }
        // Stable: equal scores keep their order.
        self.hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.score = self.hits.first().map_or(self.score, |best| best.score);
    }

    fn into_ranked(self) -> Option<RankedSession> {
        let best = self.hits.into_iter().next()?;
        Some(RankedSession {
            session_id: best.session_id,
            score: best.score,
            chunk: Some(best.chunk),
            message_ids: best.message_ids.into_iter().collect(),
        })
    }
}

fn key(hit: &Hit) -> HitKey {
    (hit.session_id, hit.revision)
}

/// Groups hits by session.
fn group_by_session(hits: Vec<Hit>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut positions: HashMap<SessionId, usize> = HashMap::new();
    for hit in hits {
        let position = *positions.entry(hit.session_id).or_insert(candidates.len());
        match candidates.get_mut(position) {
            Some(candidate) => candidate.hits.push(hit),
            None => candidates.push(Candidate { score: hit.score, key: key(&hit), hits: vec![hit] }),
        }
    }
    sort(&mut candidates);
    candidates
}

fn sort(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
}
