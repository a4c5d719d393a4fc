//! Builds search hits. Everything shown comes from Postgres.

use std::collections::{HashMap, HashSet};

use guildex_index::Filter;
use guildex_store::search::{self, Shown, Side, Span};
use guildex_store::sessions::SessionMessage;
use guildex_types::{ChannelId, GuildId, MessageId, SessionId};

use crate::deadline::Deadline;
use crate::error::{Dependency, SearchError};
use crate::excerpt::Excerpt;
use crate::request::ValidatedRequest;
use crate::response::{Chunk, SearchHit, Surrounding, SurroundingMessage};
use crate::searcher::Searcher;

/// Maximum length of a surrounding message, in characters.
const MAX_SURROUNDING_CHARS: usize = 1_000;

/// Session to return, with its best chunk.
pub(crate) struct RankedSession {
    pub session_id: SessionId,
    pub score: f32,
    /// Number of the chunk; `None` for a single message found by Postgres.
    pub chunk: Option<u32>,
    /// Messages of the chunk.
    pub message_ids: HashSet<MessageId>,
}

impl Searcher {
    /// Builds the hits of ranked sessions, in the same order. Sessions that Postgres does not have or that are outside
    /// the scope are omitted.
    pub(crate) async fn present(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        ranked: Vec<RankedSession>,
        sessions: &HashMap<SessionId, Shown>,
    ) -> Result<Vec<SearchHit>, SearchError> {
        let (mut hits, spans): (Vec<SearchHit>, Vec<Span>) = ranked
            .iter()
            .filter_map(|ranked| {
                let session = sessions.get(&ranked.session_id)?;
                hit(request, ranked, session)
                    .filter(|_| request.scope.admits(session.guild_id, session.channel_id))
            })
            .unzip();
        if request.surrounding > 0 {
            self.add_surrounding(request, deadline, &mut hits, &spans).await?;
        }
        Ok(hits)
    }

    async fn add_surrounding(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        hits: &mut [SearchHit],
        spans: &[Span],
    ) -> Result<(), SearchError> {
        let (guild, channels) = (request.scope.tenant(), request.scope.channels());
        let count = u32::try_from(request.surrounding).unwrap_or(0);
        // One more character, to know whether the text is truncated.
        let chars = i32::try_from(MAX_SURROUNDING_CHARS + 1).unwrap_or(i32::MAX);
        let read = search::surrounding(&self.pool, guild, channels, spans, count, chars);
        for hit in &mut *hits {
            hit.surrounding = Some(Surrounding::default());
        }
        for message in deadline.within(Dependency::Postgres, read).await? {
            let hit = hits.get_mut(message.span);
            let Some(surrounding) = hit.and_then(|hit| hit.surrounding.as_mut()) else { continue };
            let side = match message.side {
                Side::Before => &mut surrounding.before,
                Side::After => &mut surrounding.after,
            };
            side.push(SurroundingMessage {
                message_id: message.id,
                author_id: message.author_id,
                author_name: message.author_name,
                sent_at: message.sent_at,
                text: Excerpt::truncated(message.text.as_str(), MAX_SURROUNDING_CHARS),
                in_session: message.in_session,
            });
        }
        Ok(())
    }
}

/// Builds a hit and the position of its chunk in the channel; `None` if all messages of the chunk are deleted.
fn hit(request: &ValidatedRequest, ranked: &RankedSession, session: &Shown) -> Option<(SearchHit, Span)> {
    let first = session.messages.first()?;
    let chunk: Vec<&SessionMessage> =
        session.messages.iter().filter(|message| ranked.message_ids.contains(&message.id)).collect();
    let (from, to) = (*chunk.first()?, *chunk.last()?);
    let query = request.query.as_str();
    let preview = match ranked.chunk {
        Some(_) if !matches_filter(&request.filter, &chunk) => return None,
        Some(_) => Excerpt::best_lines(&chunk, query),
        None => {
            let from_match: Vec<_> = session.messages.iter().skip_while(|m| m.id != from.id).collect();
            Excerpt::lines(&from_match)
        }
    };
    let link = |message| link(session.guild_id, session.channel_id, message);
    let hit = SearchHit {
        score: ranked.score,
        session_id: session.id,
        guild_id: session.guild_id,
        channel_id: session.channel_id,
        channel_name: session.channel_name.clone(),
        start_time: session.span.0,
        end_time: session.span.1,
        message_count: session.messages.len(),
        first_message_id: first.id,
        link: link(first.id),
        chunk: Chunk {
            number: ranked.chunk,
            first_message_id: from.id,
            link: link(from.id),
            message_ids: chunk.iter().map(|message| message.id).collect(),
        },
        preview,
        surrounding: None,
    };
    let span = Span {
        channel_id: session.channel_id,
        first_message_id: session.first_message_id,
        from: (from.sent_at, from.id),
        to: (to.sent_at, to.id),
    };
    Some((hit, span))
}

/// Applies the filter to a chunk as Postgres has it. The index applied it too, but may be out of date.
fn matches_filter(filter: &Filter, chunk: &[&SessionMessage]) -> bool {
    let (first, last) = (chunk.first().map(|m| m.sent_at), chunk.last().map(|m| m.sent_at));
    filter.authors.as_ref().is_none_or(|authors| chunk.iter().any(|m| authors.contains(&m.author_id)))
        && filter.since.is_none_or(|since| last.is_some_and(|last| last >= since))
        && filter.until.is_none_or(|until| first.is_some_and(|first| first < until))
}

/// Discord link to a message.
fn link(guild: GuildId, channel: ChannelId, message: MessageId) -> String {
    format!("https://discord.com/channels/{guild}/{channel}/{message}")
}
