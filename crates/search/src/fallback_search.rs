//! The search in Postgres, while index or model is away.

use std::time::Duration;

use guildex_store::search::{self, Words};
use guildex_types::SessionId;

use crate::error::{Dependency, SearchError};
use crate::request::{MAX_DEPTH, ValidatedRequest};
use crate::response::SearchResponse;
use crate::searcher::{Deadline, Searcher};
use crate::show::Pick;

/// How long after the deadline Postgres gives up a query that nobody waits for.
const GRACE: Duration = Duration::from_secs(1);

impl Searcher {
    /// Answers from Postgres alone, in the same scope and under the same filters.
    pub(crate) async fn fallback_search(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        reason: String,
    ) -> Result<SearchResponse, SearchError> {
        let (guild, channels) = (request.scope.tenant(), request.scope.channels());
        let words = Words {
            guild,
            channels,
            authors: request.filter.authors.as_deref(),
            since: request.filter.since,
            until: request.filter.until,
            text: request.query.as_str(),
        };
        // All pages are cut from one list, as in the index.
        let depth = u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX);
        // Postgres gives up after us, so that it is always the deadline that is told of.
        let patience = deadline.left(Dependency::Postgres) + GRACE;
        let matches = search::by_words(&self.pool, words, depth, patience);
        let page = request.page(deadline.within(Dependency::Postgres, matches).await?);

        let ids: Vec<SessionId> = page.iter().map(|found| found.session_id).collect();
        let live = search::live(&self.pool, guild, channels, &ids);
        let live = deadline.within(Dependency::Postgres, live).await?;
        let shown = live.into_iter().map(|session| (session.id, session)).collect();
        let picks = page.into_iter().map(|found| Pick {
            session_id: found.session_id,
            score: found.score,
            chunk: None,
            message_ids: [found.message_id].into(),
        });
        let results = self.present(request, deadline, picks.collect(), &shown).await?;
        Ok(SearchResponse { results, model: None, degraded: true, reason: Some(reason) })
    }
}
