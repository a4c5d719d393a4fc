//! Full-text search in Postgres, while the index or the model is unavailable.

use std::time::Duration;

use guildex_store::search::{self, Words};
use guildex_types::SessionId;

use crate::deadline::Deadline;
use crate::error::{Dependency, SearchError};
use crate::present::RankedSession;
use crate::request::{MAX_DEPTH, ValidatedRequest};
use crate::response::SearchResponse;
use crate::searcher::Searcher;

/// Time after the deadline at which Postgres cancels the statement.
const CANCEL_DELAY: Duration = Duration::from_secs(1);

impl Searcher {
    /// Searches Postgres alone, with the same scope and filters.
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
        // All pages are slices of one list, as in the index.
        let depth = u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX);
        // Later than our deadline, so that the error is always the search's own timeout.
        let statement_timeout = deadline.remaining(Dependency::Postgres) + CANCEL_DELAY;
        let matches = search::by_words(&self.pool, words, depth, statement_timeout);
        let page = request.page(deadline.within(Dependency::Postgres, matches).await?);

        let ids: Vec<SessionId> = page.iter().map(|found| found.session_id).collect();
        let live = search::live(&self.pool, guild, channels, &ids);
        let live = deadline.within(Dependency::Postgres, live).await?;
        let sessions = live.into_iter().map(|session| (session.id, session)).collect();
        let ranked = page.into_iter().map(|found| RankedSession {
            session_id: found.session_id,
            score: found.score,
            chunk: None,
            message_ids: [found.message_id].into(),
        });
        let results = self.present(request, deadline, ranked.collect(), &sessions).await?;
        Ok(SearchResponse { results, model: None, degraded: true, reason: Some(reason) })
    }
}
