use chrono::{DateTime, Utc};
use guildex_index::{Filter, Mode, Scope};
use guildex_types::{ChannelId, GuildId, ModelSlug, SearchText, UserId};
use serde::{Deserialize, Serialize};

/// Maximum number of sessions in a response.
pub const MAX_LIMIT: usize = 100;
/// Maximum number of sessions that all pages together reach.
pub const MAX_DEPTH: usize = 200;
/// Maximum number of surrounding messages on each side of a hit.
pub const MAX_SURROUNDING: usize = 20;
/// Maximum length of a query in characters, that of the longest message.
pub const MAX_QUERY: usize = 4_000;

const DEFAULT_LIMIT: usize = 10;

/// Search request for one guild, also as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Guild to search. Hits are never of another guild.
    pub guild_id: GuildId,
    /// Channels and threads to search, such as those that the user may see; `None` for all, an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelId>>,
    /// Sessions with a message by any of these members; `None` for any author, an empty list matches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authors: Option<Vec<UserId>>,
    /// Sessions whose last message was sent at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Sessions whose first message was sent before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Query in natural language, at most [`MAX_QUERY`] characters.
    pub query: String,
    /// Ranking mode; `None` for the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Minimum score. Scores depend on the mode: see [`SearchHit`](crate::SearchHit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// Maximum number of sessions, 1 to [`MAX_LIMIT`]. Default: 10.
    #[serde(default = "default_limit")]
    pub limit: usize,
    /// Number of sessions to skip. Pages of an unchanged guild do not overlap. With `limit` at most [`MAX_DEPTH`].
    #[serde(default)]
    pub offset: usize,
    /// Number of messages to return before and after each hit, at most [`MAX_SURROUNDING`]. Default: 0.
    #[serde(default)]
    pub surrounding: usize,
    /// Model whose collection to search, to compare models; `None` for the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSlug>,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// Omits the query, which is private.
impl std::fmt::Debug for SearchRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchRequest")
            .field("guild_id", &self.guild_id)
            .field("channels", &self.channels)
            .field("authors", &self.authors)
            .field("since", &self.since)
            .field("until", &self.until)
            .field("mode", &self.mode)
            .field("min_score", &self.min_score)
            .field("limit", &self.limit)
            .field("offset", &self.offset)
            .field("surrounding", &self.surrounding)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// Invalid [`SearchRequest`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRequest {
    /// Query without text.
    #[error("the query is empty")]
    EmptyQuery,
    /// Query longer than [`MAX_QUERY`].
    #[error("the query has more than {MAX_QUERY} characters")]
    LongQuery,
    /// Limit out of range.
    #[error("a limit of {0} is out of range: use 1 to {MAX_LIMIT}")]
    Limit(usize),
    /// Offset and limit beyond [`MAX_DEPTH`].
    #[error("offset {offset} and limit {limit} exceed the first {MAX_DEPTH} sessions: narrow the search")]
    Depth {
        /// Requested offset.
        offset: usize,
        /// Requested limit.
        limit: usize,
    },
    /// Too many surrounding.
    #[error("{0} surrounding are too many: use 0 to {MAX_SURROUNDING}")]
    Surrounding(usize),
    /// Minimum score that is infinite or NaN.
    #[error("min_score must be a finite number")]
    MinScore,
    /// Empty time range.
    #[error("since must be before until")]
    Times,
    /// Model without a maintained collection.
    #[error("model {model} has no collection; available models: {available}")]
    Model {
        /// Requested model.
        model: ModelSlug,
        /// Models with a collection, separated by commas.
        available: String,
    },
}

impl SearchRequest {
    /// Creates a request for the ten best sessions of a whole guild.
    pub fn new(guild_id: GuildId, query: impl Into<String>) -> Self {
        Self {
            guild_id,
            channels: None,
            authors: None,
            since: None,
            until: None,
            query: query.into(),
            mode: None,
            min_score: None,
            limit: DEFAULT_LIMIT,
            offset: 0,
            surrounding: 0,
            model: None,
        }
    }

    /// Validates the request and builds its scope.
    pub(crate) fn validate(&self, default_mode: Mode) -> Result<ValidatedRequest, InvalidRequest> {
        let Self { limit, offset, surrounding, .. } = *self;
        if self.query.chars().count() > MAX_QUERY {
            return Err(InvalidRequest::LongQuery);
        }
        let query = SearchText::from_parts([self.query.as_str()]);
        if query.is_empty() {
            return Err(InvalidRequest::EmptyQuery);
        }
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(InvalidRequest::Limit(limit));
        }
        if offset.saturating_add(limit) > MAX_DEPTH {
            return Err(InvalidRequest::Depth { offset, limit });
        }
        if surrounding > MAX_SURROUNDING {
            return Err(InvalidRequest::Surrounding(surrounding));
        }
        if self.min_score.is_some_and(|score| !score.is_finite()) {
            return Err(InvalidRequest::MinScore);
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(InvalidRequest::Times);
        }
        let scope = Scope::guild(self.guild_id);
        Ok(ValidatedRequest {
            scope: match self.channels.clone() {
                Some(channels) => scope.only(channels),
                None => scope,
            },
            filter: Filter {
                authors: self.authors.clone(),
                since: self.since.map(clamp),
                until: self.until.map(clamp),
            },
            query,
            mode: self.mode.unwrap_or(default_mode),
            min_score: self.min_score,
            limit,
            offset,
            surrounding,
            model: self.model.clone(),
        })
    }
}

/// Clamps a time to the range of the schema, because Postgres' range is smaller than chrono's.
fn clamp(time: DateTime<Utc>) -> DateTime<Utc> {
    /// 2201-01-01, in seconds of Unix time.
    const END: i64 = 7_289_654_400;
    time.clamp(DateTime::UNIX_EPOCH, DateTime::from_timestamp(END, 0).unwrap_or(DateTime::UNIX_EPOCH))
}

/// Valid request. Its scope is built once and limits all later steps.
pub(crate) struct ValidatedRequest {
    pub scope: Scope,
    pub filter: Filter,
    pub query: SearchText,
    pub mode: Mode,
    pub min_score: Option<f32>,
    pub limit: usize,
    pub offset: usize,
    pub surrounding: usize,
    pub model: Option<ModelSlug>,
}

impl ValidatedRequest {
    /// Returns the requested page of a ranked list.
    pub fn page<T>(&self, ranked: Vec<T>) -> Vec<T> {
        ranked.into_iter().take(MAX_DEPTH).skip(self.offset).take(self.limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> SearchRequest {
        SearchRequest::new(1.try_into().unwrap(), "my secret query")
    }

    fn rejection(change: impl FnOnce(&mut SearchRequest)) -> InvalidRequest {
        let mut request = request();
        change(&mut request);
        request.validate(Mode::Hybrid).err().expect("the request was accepted")
    }

    #[test]
    fn invalid_requests_are_rejected_with_a_reason() {
        use InvalidRequest::*;
        for blank in ["", " \t\n", "\u{0}\u{7}"] {
            assert_eq!(rejection(|r| r.query = blank.to_owned()), EmptyQuery);
        }
        assert_eq!(rejection(|r| r.query = "é".repeat(MAX_QUERY + 1)), LongQuery);
        assert_eq!(rejection(|r| r.limit = 0), Limit(0));
        assert_eq!(rejection(|r| r.limit = 101), Limit(101));
        assert_eq!(rejection(|r| r.offset = 191), Depth { offset: 191, limit: 10 });
        assert_eq!(rejection(|r| r.offset = usize::MAX), Depth { offset: usize::MAX, limit: 10 });
        assert_eq!(rejection(|r| r.surrounding = 21), Surrounding(21));
        assert_eq!(rejection(|r| r.min_score = Some(f32::NAN)), MinScore);
        let now = Utc::now();
        assert_eq!(rejection(|r| (r.since, r.until) = (Some(now), Some(now))), Times);
    }

    #[test]
    fn range_limits_are_inclusive() {
        let mut widest = request();
        (widest.limit, widest.offset, widest.surrounding) =
            (MAX_LIMIT, MAX_DEPTH - MAX_LIMIT, MAX_SURROUNDING);
        widest.query = "é".repeat(MAX_QUERY);
        (widest.since, widest.until) = (Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC));
        let request = widest.validate(Mode::Dense).ok().unwrap();
        assert_eq!(request.filter.since, Some(DateTime::UNIX_EPOCH));
        assert_eq!(request.filter.until.unwrap().to_rfc3339(), "2201-01-01T00:00:00+00:00");
        assert_eq!(request.mode, Mode::Dense);
    }

    #[test]
    fn guild_and_query_suffice_and_unknown_fields_are_rejected() {
        let least: SearchRequest = serde_json::from_str(r#"{"guild_id": "1", "query": "x"}"#).unwrap();
        assert_eq!((least.limit, least.offset, least.surrounding), (10, 0, 0));
        assert!(least.validate(Mode::Hybrid).is_ok());
        let text = serde_json::to_string(&least).unwrap();
        assert_eq!(serde_json::from_str::<SearchRequest>(&text).unwrap().limit, 10);
        for wrong in [
            r#"{"query": "x"}"#,
            r#"{"guild_id": "1", "query": "x", "channel": "2"}"#,
            r#"{"guild_id": 1, "query": "x"}"#,
            r#"{"guild_id": "1", "query": "x", "mode": "best"}"#,
            r#"{"guild_id": "1", "query": "x", "model": "../x"}"#,
            r#"{"guild_id": "1", "query": "x", "limit": -1}"#,
        ] {
            assert!(serde_json::from_str::<SearchRequest>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn debug_output_omits_the_query() {
        assert!(!format!("{:?}", request()).contains("secret"));
    }

    fn request_json(guild: i64, query: &str, numbers: (usize, usize, usize)) -> serde_json::Value {
        serde_json::json!({
            "guild_id": guild.to_string(), "query": query, "channels": ["2"], "authors": ["3", "4"],
            "since": "2024-01-01T00:00:00Z", "until": "2025-01-01T00:00:00+02:00", "mode": "hybrid", "min_score": 0.5,
            "limit": numbers.0, "offset": numbers.1, "surrounding": numbers.2, "model": "minilm-fp32",
        })
    }

    fn any_request() -> impl Strategy<Value = serde_json::Value> {
        let numbers = (0..=MAX_LIMIT + 1, 0..=MAX_DEPTH, 0..=MAX_SURROUNDING + 1);
        (1..=i64::MAX, any::<String>(), numbers)
            .prop_map(|(guild, query, numbers)| request_json(guild, &query, numbers))
    }

    /// Valid requests are within all limits and keep their guild.
    fn check(request: SearchRequest) -> Result<(), TestCaseError> {
        let guild = request.guild_id;
        if let Ok(request) = request.validate(Mode::Hybrid) {
            prop_assert_eq!(request.scope.tenant(), guild);
            let query = request.query.as_str();
            prop_assert!(!query.is_empty() && !query.contains('\0') && query.chars().count() <= MAX_QUERY);
            prop_assert!(
                (1..=MAX_LIMIT).contains(&request.limit) && request.offset + request.limit <= MAX_DEPTH
            );
            prop_assert!(
                request.surrounding <= MAX_SURROUNDING && request.min_score.is_none_or(f32::is_finite)
            );
            let _ = crate::phrase::Phrase::new(query).is_some();
            for &language in guildex_index::bm25::Language::ALL {
                let _ = guildex_index::bm25::query(query, language);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn altered_requests_are_accepted_or_rejected(request in any_request().prop_flat_map(guildex_test_support::damage::altered)) {
            if let Ok(request) = serde_json::from_value(request) {
                check(request)?;
            }
        }

        #[test]
        fn damaged_requests_are_accepted_or_rejected(
            body in any_request().prop_flat_map(|request| guildex_test_support::damage::damaged(request.to_string().into_bytes())),
        ) {
            if let Ok(request) = serde_json::from_slice(&body) {
                check(request)?;
            }
        }
    }
}
