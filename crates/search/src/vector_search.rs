//! The search in a model's collection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use guildex_embed::{Embedder, ModelError};
use guildex_index::bm25::{self, Language};
use guildex_index::{self as index, CollectionName, Hit, Mode, Query};
use guildex_store::channels;
use guildex_store::models::{self, ModelState};
use guildex_store::search::{self, HitKey, Shown};
use guildex_types::{MessageId, ModelSlug, SessionId};

use crate::error::{Dependency, SearchError};
use crate::phrase::Phrase;
use crate::request::{InvalidRequest, MAX_DEPTH, ValidatedRequest};
use crate::response::SearchResponse;
use crate::searcher::{Deadline, Searcher};
use crate::show::Pick;

/// How many points a search ranks, whatever page is asked for: ranks are fused, so another number would give another
/// order. Twice as many as sessions are shown, since some are chunks of one session, and some are out of date.
const POOL: usize = 2 * MAX_DEPTH;

/// How many of the best sessions are looked through for the very words that were asked for. Whoever said them has
/// all the words, and so is among the best already.
const PHRASE_DEPTH: usize = 50;

/// A session that was hit.
struct Candidate {
    /// Its hits, the best first; never empty.
    hits: Vec<Hit>,
    score: f32,
    key: HitKey,
}

impl Searcher {
    /// Answers from the collection of the active model, or of the one that is named.
    pub(crate) async fn vector_search(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
    ) -> Result<SearchResponse, SearchError> {
        let model = self.model(request, deadline).await?;
        match self.in_collection(request, deadline, &model).await {
            // Another model became the active one since, and this one's collection is gone. It is rare enough not to
            // happen twice.
            Err(SearchError::Index(index::Error::NoCollection(_))) => {
                let model = self.model(request, deadline).await?;
                self.in_collection(request, deadline, &model).await
            }
            outcome => outcome,
        }
    }

    /// The model to search with, as Postgres has it now.
    async fn model(&self, request: &ValidatedRequest, deadline: &Deadline) -> Result<ModelSlug, SearchError> {
        let kept = deadline.within(Dependency::Postgres, models::list(&self.pool)).await?;
        let Some(named) = &request.model else {
            let active = kept.into_iter().find(|model| model.state == ModelState::Active);
            return Ok(active.ok_or(SearchError::NothingIndexed)?.slug);
        };
        let in_step = kept.into_iter().filter(|model| model.state.is_maintained());
        let slugs: Vec<String> = in_step.map(|model| model.slug.to_string()).collect();
        if slugs.iter().any(|slug| slug == named.as_str()) {
            return Ok(named.clone());
        }
        let kept = if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") };
        Err(InvalidRequest::Model { model: named.clone(), kept }.into())
    }

    async fn in_collection(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
    ) -> Result<SearchResponse, SearchError> {
        let collection = CollectionName::new(&self.base, model)?;
        let language = deadline
            .within(Dependency::Postgres, channels::language(&self.pool, request.scope.tenant()))
            .await?;
        // A name that only a later release knows: words are what they are then.
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
            // A phrase may lift a fused score over it.
            min_score: request.min_score.filter(|_| request.mode != Mode::Hybrid),
            limit: 0,
            exact: false,
        };
        let mut candidates = self.candidates(request, deadline, model, &collection, query).await?;
        self.boost_exact_phrases(request, deadline, model, &mut candidates).await?;
        candidates.retain(|candidate| request.min_score.is_none_or(|least| candidate.score >= least));

        let page = request.page(candidates);
        let keys: Vec<HitKey> = page.iter().map(|candidate| candidate.key).collect();
        let shown = self.shown(request, deadline, model, &keys).await?;
        let picks = page.into_iter().filter_map(Candidate::pick).collect();
        let results = self.present(request, deadline, picks, &shown).await?;
        Ok(SearchResponse { results, model: Some(model.clone()), degraded: false, reason: None })
    }

    async fn embed(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
    ) -> Result<Vec<f32>, SearchError> {
        let (models, slug) = (Arc::clone(&self.models), model.clone());
        // A model that takes longer to load than a search may take goes on loading, for the searches after this.
        let loading = tokio::spawn(async move { models.get(&slug).await });
        let loaded = async { loading.await.unwrap_or_else(|_| Err(ModelError::Panicked(model.clone()))) };
        let embedder: Arc<dyn Embedder> = deadline.within(Dependency::Model, loaded).await?;
        deadline.within(Dependency::Model, embedder.embed_query(request.query.as_str().to_owned())).await
    }

    /// The sessions that were hit and may be shown, best first, ties by id: the same for all pages.
    async fn candidates(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        collection: &CollectionName,
        mut query: Query,
    ) -> Result<Vec<Candidate>, SearchError> {
        // Many may be out of date after much was deleted: then it takes more to fill all pages.
        for limit in [POOL, index::MAX_LIMIT] {
            query.limit = limit;
            let search = self.index.search(collection, &request.scope, query.clone());
            let hits = deadline.within(Dependency::Index, search).await?;
            let exhausted = hits.len() < limit;
            let hits = self.admit(request, deadline, model, collection, hits).await?;
            let candidates = by_session(hits);
            if exhausted || candidates.len() >= MAX_DEPTH || limit == index::MAX_LIMIT {
                return Ok(candidates);
            }
        }
        Ok(Vec::new())
    }

    /// Those of the hits that may be shown.
    async fn admit(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        collection: &CollectionName,
        mut hits: Vec<Hit>,
    ) -> Result<Vec<Hit>, SearchError> {
        // The index filters by the scope; its word is checked all the same, here and by Postgres.
        hits.retain(|hit| request.scope.admits(hit.guild_id, hit.channel_id));
        if hits.is_empty() {
            return Ok(hits);
        }
        let keys: Vec<HitKey> = hits.iter().map(key).collect();
        let (guild, channels) = (request.scope.tenant(), request.scope.channels());
        let admitted = search::visible(&self.pool, guild, channels, &keys, model);
        let admitted = deadline.within(Dependency::Postgres, admitted).await?;
        // The books of a model that is dropped go before its collection: nothing of it counts then.
        if admitted.is_empty() {
            let kept = deadline.within(Dependency::Postgres, models::list(&self.pool)).await?;
            if !kept.iter().any(|kept| kept.slug == *model) {
                return Err(index::Error::NoCollection(collection.clone()).into());
            }
        }
        hits.retain(|hit| admitted.contains(&key(hit)));
        Ok(hits)
    }

    /// Lets the best sessions say whether somebody in them said exactly what is asked: that is a third voice beside
    /// vectors and words, and gives its first place to each chunk that has it.
    async fn boost_exact_phrases(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        candidates: &mut [Candidate],
    ) -> Result<(), SearchError> {
        let phrase = Phrase::of(request.query.as_str());
        if request.mode != Mode::Hybrid || !phrase.is_some() {
            return Ok(());
        }
        let first_place = 1.0 / (self.config.fusion.k + 1.0);
        let best: Vec<HitKey> = candidates.iter().take(PHRASE_DEPTH).map(|c| c.key).collect();
        let shown = self.shown(request, deadline, model, &best).await?;
        for candidate in candidates.iter_mut().take(PHRASE_DEPTH) {
            let Some(session) = shown.get(&candidate.key.0) else { continue };
            let said = session.messages.iter().filter(|message| phrase.is_in(message));
            let said: HashSet<MessageId> = said.map(|message| message.id).collect();
            candidate.add(first_place, |hit| hit.message_ids.iter().any(|id| said.contains(id)));
        }
        sort(candidates);
        Ok(())
    }

    /// Sessions as the truth has them, those of them that may be shown.
    async fn shown(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        model: &ModelSlug,
        keys: &[HitKey],
    ) -> Result<HashMap<SessionId, Shown>, SearchError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let show = search::show(&self.pool, request.scope.tenant(), request.scope.channels(), keys, model);
        let shown = deadline.within(Dependency::Postgres, show).await?;
        Ok(shown.into_iter().map(|session| (session.id, session)).collect())
    }
}

impl Candidate {
    /// Adds to the score of some hits.
    fn add(&mut self, bonus: f32, deserves: impl Fn(&Hit) -> bool) {
        for hit in self.hits.iter_mut().filter(|hit| deserves(hit)) {
            hit.score += bonus;
        }
        // A stable sort: among equals the first stays.
        self.hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.score = self.hits.first().map_or(self.score, |best| best.score);
    }

    fn pick(self) -> Option<Pick> {
        let best = self.hits.into_iter().next()?;
        Some(Pick {
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

/// Each session once, with its hits.
fn by_session(hits: Vec<Hit>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut places: HashMap<SessionId, usize> = HashMap::new();
    for hit in hits {
        let place = *places.entry(hit.session_id).or_insert(candidates.len());
        match candidates.get_mut(place) {
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
