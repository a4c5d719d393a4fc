//! What is asked, as it also goes over the wire, and what cannot be.

use chrono::{DateTime, Utc};
use guildex_index::{Filter, Mode, Scope};
use guildex_types::{ChannelId, GuildId, ModelSlug, SearchText, UserId};
use serde::{Deserialize, Serialize};

/// The most sessions of one answer.
pub const MAX_LIMIT: usize = 100;
/// The most sessions that pages reach in all: whoever has not found it by then should ask otherwise.
pub const MAX_DEPTH: usize = 200;
/// The most messages shown on each side of a find.
pub const MAX_SURROUNDING: usize = 20;
/// The longest query, in characters: as long as the longest message.
pub const MAX_QUERY: usize = 4_000;

const DEFAULT_LIMIT: usize = 10;

/// A question to one guild's memory.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// The tenant. Nothing of another guild is ever found.
    pub guild_id: GuildId,
    /// The channels and threads to look in, such as those that the asker may see; `None` for all of the guild's,
    /// an empty list for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelId>>,
    /// Conversations in which any of these members speaks; `None` for whoever speaks, an empty list for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authors: Option<Vec<UserId>>,
    /// Conversations whose last message was sent then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Conversations whose first message was sent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// The question, in anybody's words: at most [`MAX_QUERY`] characters.
    pub query: String,
    /// What ranks; `None` as the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Leaves out what scores less. What a score means depends on the mode: see [`SearchHit`](crate::SearchHit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// How many sessions to find, 1 to [`MAX_LIMIT`]. Default: 10.
    #[serde(default = "default_limit")]
    pub limit: usize,
    /// How many to pass over first: pages of an unchanged guild, joined, are one list. With `limit` at most
    /// [`MAX_DEPTH`].
    #[serde(default)]
    pub offset: usize,
    /// How many messages to show before and after each find, at most [`MAX_SURROUNDING`]. Default: none.
    #[serde(default)]
    pub surrounding: usize,
    /// A model whose collection is kept in step, to compare it with the active one; `None` for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSlug>,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// Who asks what is private: a debug print leaves the question out.
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

/// A request that cannot be answered, and what to ask instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRequest {
    /// There is nothing to look for.
    #[error("the query is empty: say what to search for")]
    EmptyQuery,
    /// Nobody asks that much.
    #[error("the query has more than {MAX_QUERY} characters: a sentence or two find more")]
    LongQuery,
    /// Too few or too many sessions at a time.
    #[error("a limit of {0} is out of range: use 1 to {MAX_LIMIT}")]
    Limit(usize),
    /// Too far down.
    #[error(
        "offset {offset} and limit {limit} reach beyond the first {MAX_DEPTH} sessions: narrow the search"
    )]
    Depth {
        /// As asked.
        offset: usize,
        /// As asked.
        limit: usize,
    },
    /// Too many surrounding.
    #[error("{0} surrounding are too many: use 0 to {MAX_SURROUNDING}")]
    Surrounding(usize),
    /// Infinity and NaN compare with no score.
    #[error("min_score has to be a finite number")]
    MinScore,
    /// A time that is over before it begins.
    #[error("there is no time between since and until: since has to be before until")]
    Times,
    /// A model whose collection is not kept in step.
    #[error("the model {model} has no collection that is kept in step; these have: {kept}")]
    Model {
        /// As asked.
        model: ModelSlug,
        /// Those that could be named, by comma.
        kept: String,
    },
}

impl SearchRequest {
    /// A question to all of a guild, for the ten best sessions.
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

    /// The request as a search goes by it.
    pub(crate) fn check(&self, default_mode: Mode) -> Result<ValidatedRequest, InvalidRequest> {
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
                since: self.since.map(storable),
                until: self.until.map(storable),
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

/// The nearest time that messages can be sent at, by the schema: Postgres does not take all that chrono does.
fn storable(time: DateTime<Utc>) -> DateTime<Utc> {
    /// 2201-01-01, in seconds of Unix time.
    const END: i64 = 7_289_654_400;
    time.clamp(DateTime::UNIX_EPOCH, DateTime::from_timestamp(END, 0).unwrap_or(DateTime::UNIX_EPOCH))
}

/// A request that can be answered. Its scope is made here, once, and bounds all that follows.
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
    /// The page that was asked for, of all that was found, best first.
    pub fn page<T>(&self, found: Vec<T>) -> Vec<T> {
        found.into_iter().take(MAX_DEPTH).skip(self.offset).take(self.limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> SearchRequest {
        SearchRequest::new(1.try_into().unwrap(), "my secret question")
    }

    fn refusal(change: impl FnOnce(&mut Request)) -> InvalidRequest {
        let mut request = request();
        change(&mut request);
        request.check(Mode::Hybrid).err().expect("this request was taken")
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_name() {
        use InvalidRequest::*;
        for blank in ["", " \t\n", "\u{0}\u{7}"] {
            assert_eq!(refusal(|r| r.query = blank.to_owned()), EmptyQuery);
        }
        assert_eq!(refusal(|r| r.query = "é".repeat(MAX_QUERY + 1)), LongQuery);
        assert_eq!(refusal(|r| r.limit = 0), Limit(0));
        assert_eq!(refusal(|r| r.limit = 101), Limit(101));
        assert_eq!(refusal(|r| r.offset = 191), Depth { offset: 191, limit: 10 });
        assert_eq!(refusal(|r| r.offset = usize::MAX), Depth { offset: usize::MAX, limit: 10 });
        assert_eq!(refusal(|r| r.surrounding = 21), Surrounding(21));
        assert_eq!(refusal(|r| r.min_score = Some(f32::NAN)), MinScore);
        let now = Utc::now();
        assert_eq!(refusal(|r| (r.since, r.until) = (Some(now), Some(now))), Times);
    }

    #[test]
    fn the_ends_of_the_ranges_are_inside() {
        let mut widest = request();
        (widest.limit, widest.offset, widest.surrounding) =
            (MAX_LIMIT, MAX_DEPTH - MAX_LIMIT, MAX_SURROUNDING);
        widest.query = "é".repeat(MAX_QUERY);
        (widest.since, widest.until) = (Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC));
        let request = widest.check(Mode::Dense).ok().unwrap();
        assert_eq!(request.filter.since, Some(DateTime::UNIX_EPOCH));
        assert_eq!(request.filter.until.unwrap().to_rfc3339(), "2201-01-01T00:00:00+00:00");
        assert_eq!(request.mode, Mode::Dense);
    }

    #[test]
    fn a_guild_and_a_query_are_enough_and_what_is_unknown_is_refused() {
        let least: SearchRequest = serde_json::from_str(r#"{"guild_id": "1", "query": "x"}"#).unwrap();
        assert_eq!((least.limit, least.offset, least.surrounding), (10, 0, 0));
        assert!(least.check(Mode::Hybrid).is_ok());
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
    fn a_debug_print_does_not_show_the_question() {
        assert!(!format!("{:?}", request()).contains("secret"));
    }

    fn asked(guild: i64, query: &str, numbers: (usize, usize, usize)) -> serde_json::Value {
        serde_json::json!({
            "guild_id": guild.to_string(), "query": query, "channels": ["2"], "authors": ["3", "4"],
            "since": "2024-01-01T00:00:00Z", "until": "2025-01-01T00:00:00+02:00", "mode": "hybrid", "min_score": 0.5,
            "limit": numbers.0, "offset": numbers.1, "surrounding": numbers.2, "model": "minilm-fp32",
        })
    }

    fn any_asked() -> impl Strategy<Value = serde_json::Value> {
        let numbers = (0..=MAX_LIMIT + 1, 0..=MAX_DEPTH, 0..=MAX_SURROUNDING + 1);
        (1..=i64::MAX, any::<String>(), numbers)
            .prop_map(|(guild, query, numbers)| asked(guild, &query, numbers))
    }

    /// What is taken keeps to all bounds, and is of the guild that was named.
    fn check(request: SearchRequest) -> Result<(), TestCaseError> {
        let guild = request.guild_id;
        if let Ok(request) = request.check(Mode::Hybrid) {
            prop_assert_eq!(request.scope.tenant(), guild);
            let query = request.query.as_str();
            prop_assert!(!query.is_empty() && !query.contains('\0') && query.chars().count() <= MAX_QUERY);
            prop_assert!(
                (1..=MAX_LIMIT).contains(&request.limit) && request.offset + request.limit <= MAX_DEPTH
            );
            prop_assert!(
                request.surrounding <= MAX_SURROUNDING && request.min_score.is_none_or(f32::is_finite)
            );
            let _ = crate::phrase::Phrase::of(query).is_some();
            for language in guildex_index::bm25::Language::ALL {
                let _ = guildex_index::bm25::query(query, language);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn an_altered_question_is_taken_or_refused(asked in any_asked().prop_flat_map(guildex_test_support::damage::altered)) {
            if let Ok(request) = serde_json::from_value(asked) {
                check(request)?;
            }
        }

        #[test]
        fn a_damaged_question_is_taken_or_refused(
            body in any_asked().prop_flat_map(|asked| guildex_test_support::damage::damaged(asked.to_string().into_bytes())),
        ) {
            if let Ok(request) = serde_json::from_slice(&body) {
                check(request)?;
            }
        }
    }
}
