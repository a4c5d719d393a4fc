//! Searches: rankings from the engine, fused here.

use std::collections::HashMap;

use guildex_types::{ChannelId, GuildId, MessageId, Revision, SessionId};
use qdrant_edge::{
    Filter, NamedQuery, QueryEnum, QueryRequest, ScoringQuery, SearchParams, VectorInternal,
    WithPayloadInterface, WithVector,
};
use serde::Deserialize;

use super::Shard;
use crate::embedded::convert::{from_engine_id, payload, to_engine};
use crate::embedded::schema::{self, BM25, DENSE};
use crate::fusion::{Scored, depth, rank};
use crate::{Error, Hit, MAX_LIMIT, Mode, Query, Scope};

/// How far a ranking is read for points that score as well as its last one.
const MAX_TIES: usize = 10_000;

impl Shard {
    pub(in crate::embedded) fn search(&self, scope: &Scope, query: &Query) -> Result<Vec<Hit>, Error> {
        if query.mode != Mode::Sparse {
            self.check(&query.dense)?;
        }
        let limit = query.limit.min(MAX_LIMIT);
        if limit == 0
            || scope.channels().is_some_and(<[_]>::is_empty)
            || query.filter.authors.as_ref().is_some_and(Vec::is_empty)
        {
            return Ok(vec![]);
        }
        let filter = schema::in_scope(scope, &query.filter)?;
        let dense = || self.nearest(DENSE, VectorInternal::Dense(query.dense.clone()), &filter, query);
        let words = || match query.bm25.is_empty() {
            true => Ok(vec![]),
            false => self.nearest(BM25, VectorInternal::Sparse(to_engine(&query.bm25)), &filter, query),
        };
        let mut ranking = match query.mode {
            Mode::Dense => dense()?,
            Mode::Sparse => words()?,
            Mode::Hybrid => query.fusion.fuse(dense()?, words()?),
        };
        if let Some(least) = query.min_score {
            ranking.retain(|(_, score)| *score >= least);
        }
        self.hits(scope, ranking.into_iter().take(limit).collect())
    }

    /// As many of the points nearest to a vector as fusion needs, best first. Where equal scores straddle the
    /// cut, those with the lowest ids are in, as long as no more than [`MAX_TIES`] points score as well as they
    /// do; of more, the engine's pick stands, which is the same until something is written.
    fn nearest(
        &self,
        name: &str,
        vector: VectorInternal,
        filter: &Filter,
        query: &Query,
    ) -> Result<Vec<Scored>, Error> {
        let depth = depth(query.limit);
        let named = NamedQuery { query: vector, using: Some(name.into()) };
        let mut request = QueryRequest {
            prefetches: vec![],
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(named))),
            filter: Some(filter.clone()),
            score_threshold: None,
            limit: depth + 1,
            offset: 0,
            params: Some(SearchParams { exact: query.exact, ..SearchParams::default() }),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let mut found = self.engine.with(|engine| engine.query(request.clone()))?;
        if let [.., last, next] = found.as_slice()
            && found.len() > depth
            && last.score == next.score
        {
            request.limit = MAX_TIES;
            found = self.engine.with(|engine| engine.query(request))?;
        }
        let scored = found.into_iter().map(|point| Ok((from_engine_id(point.id)?, point.score)));
        let mut ranking = rank(scored.collect::<Result<_, Error>>()?);
        ranking.truncate(depth);
        Ok(ranking)
    }

    /// The ranked points with what is known of them now; one that was deleted meanwhile is left out.
    fn hits(&self, scope: &Scope, ranking: Vec<Scored>) -> Result<Vec<Hit>, Error> {
        #[derive(Deserialize)]
        struct Place {
            guild_id: GuildId,
            channel_id: ChannelId,
            session_id: SessionId,
            chunk: u32,
            message_ids: Vec<MessageId>,
            revision: Revision,
        }
        const FIELDS: [&str; 6] =
            ["guild_id", "channel_id", "session_id", "chunk", "message_ids", "revision"];

        let scores: HashMap<_, _> = ranking.iter().copied().collect();
        let mut hits = vec![];
        for record in self.retrieve(ranking.into_iter().map(|(id, _)| id), &FIELDS)? {
            let (id, place): (_, Place) = payload(record)?;
            let Some(&score) = scores.get(&id) else { continue };
            // The filter saw to this; a leak between tenants is worth a second look.
            if scope.admits(place.guild_id, place.channel_id) {
                let Place { guild_id, channel_id, session_id, chunk, message_ids, revision } = place;
                hits.push(Hit { id, score, guild_id, channel_id, session_id, chunk, message_ids, revision });
            }
        }
        Ok(hits)
    }
}
