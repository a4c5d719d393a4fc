//! The search itself.

use std::collections::HashMap;
use std::sync::Arc;

use guildex_embed::{EmbedError, Embedder};
use guildex_index::{
    CollectionName, Filter, Fusion, Hit, MAX_LIMIT, Mode, Query, Scope, VectorIndex, bm25, reciprocal_rank,
};
use guildex_store::StoreError;
use guildex_store::sessions::{self, Shown};
use guildex_types::SessionId;
use sqlx::PgPool;

use crate::excerpt::excerpt;
use crate::phrase::Phrase;
use crate::request::{Found, Request, Results};

/// The most sessions that one search gives.
const MAX_RESULTS: usize = 100;
/// The longest query, in characters: as long as the longest message.
const MAX_QUERY: usize = 4_000;
/// Points asked for a session wanted: several may be chunks of one session, and some may be out of date.
const POINTS_PER_RESULT: usize = 4;

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// There is nothing to look for.
    #[error("the query is empty: say what to search for")]
    EmptyQuery,
    /// Nobody asks that much.
    #[error("the query has more than {MAX_QUERY} characters: a sentence or two find more")]
    LongQuery,
    /// The question could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Searches one model's collection.
#[derive(Clone)]
pub struct Searcher {
    /// The truth.
    pub pool: PgPool,
    /// The model that made the collection's vectors.
    pub embedder: Arc<dyn Embedder>,
    /// The index.
    pub index: Arc<dyn VectorIndex>,
    /// The model's collection in it.
    pub collection: CollectionName,
}

impl Searcher {
    /// The sessions that answer the request best, best first.
    ///
    /// # Errors
    /// If the query is blank or too long, or the model, the index or Postgres fails.
    pub async fn search(&self, request: &Request) -> Result<Results, SearchError> {
        if request.query.trim().is_empty() {
            return Err(SearchError::EmptyQuery);
        }
        if request.query.chars().count() > MAX_QUERY {
            return Err(SearchError::LongQuery);
        }
        let scope = Scope::guild(request.guild_id);
        let scope = match request.channels.clone() {
            Some(channels) => scope.only(channels),
            None => scope,
        };
        let mut query = Query {
            dense: self.embedder.embed_query(request.query.clone()).await?,
            bm25: bm25::query(&request.query, bm25::Language::None),
            mode: Mode::Hybrid,
            fusion: Fusion::default(),
            filter: Filter::default(),
            min_score: None,
            limit: 0,
            exact: false,
        };
        let wanted = request.limit.min(MAX_RESULTS);
        let mut points = (wanted * POINTS_PER_RESULT).max(20);
        loop {
            query.limit = points.min(MAX_LIMIT);
            let hits = self.index.search(&self.collection, &scope, query.clone()).await?;
            let exhausted = hits.len() < query.limit || points >= MAX_LIMIT;
            let results = self.join(&scope, &hits, request, wanted).await?;
            if results.len() >= wanted || exhausted {
                return Ok(Results { results });
            }
            points *= 4;
        }
    }

    /// Joins hits with the truth, each session once, by its best point that still counts.
    async fn join(
        &self,
        scope: &Scope,
        hits: &[Hit],
        request: &Request,
        wanted: usize,
    ) -> Result<Vec<Found>, SearchError> {
        // The index filters by the scope; its word is checked all the same.
        let hits = || hits.iter().filter(|hit| scope.admits(hit.guild_id, hit.channel_id));
        let keys: Vec<_> = hits().map(|hit| (hit.session_id, hit.revision)).collect();

        let shown =
            sessions::show(&self.pool, scope.tenant(), scope.channels(), &keys, self.embedder.slug()).await?;
        let mut shown: HashMap<SessionId, Shown> = shown.into_iter().map(|s| (s.id, s)).collect();
        let phrase = Phrase::of(&request.query);
        let mut found: Vec<Found> = hits()
            .filter_map(|hit| {
                let session = shown.get(&hit.session_id).filter(|s| s.point_revision == hit.revision)?.id;
                found(hit, &shown.remove(&session)?, &request.query, &phrase)
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.session_id.cmp(&b.session_id)));
        found.truncate(wanted);
        Ok(found)
    }
}

/// Whoever said just what is asked comes first: the phrase is a third voice beside vectors and words, and gives
/// its first place to each session that has it.
fn found(hit: &Hit, session: &Shown, query: &str, phrase: &Phrase) -> Option<Found> {
    let first = session.messages.first()?;
    let (guild, channel) = (hit.guild_id, session.channel_id);
    Some(Found {
        score: hit.score + if phrase.is_in(&session.messages) { reciprocal_rank(0) } else { 0.0 },
        session_id: session.id,
        guild_id: guild,
        channel_id: channel,
        channel_name: session.channel_name.clone(),
        start_time: session.span.0,
        end_time: session.span.1,
        message_count: session.messages.len(),
        first_message_id: first.id,
        link: format!("https://discord.com/channels/{guild}/{channel}/{}", first.id),
        preview: excerpt(&session.messages, query),
    })
}
