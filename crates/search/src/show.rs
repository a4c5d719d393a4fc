//! Finds as they are shown: all that is told of them comes from Postgres.

use std::collections::{HashMap, HashSet};

use guildex_index::Filter;
use guildex_store::search::{self, Shown, Side, Span};
use guildex_store::sessions::SessionMessage;
use guildex_types::{ChannelId, GuildId, MessageId, SessionId};

use crate::error::{Dependency, SearchError};
use crate::excerpt::Excerpt;
use crate::request::ValidatedRequest;
use crate::response::{Chunk, SearchHit, Surrounding, SurroundingMessage};
use crate::searcher::{Deadline, Searcher};

/// The longest text of a neighbour, in characters.
const NEIGHBOUR_CHARS: usize = 1_000;

/// A session to show, and the part of it that fits best.
pub(crate) struct Pick {
    pub session_id: SessionId,
    pub score: f32,
    /// The chunk's number; `None` if the part is a message that Postgres found.
    pub chunk: Option<u32>,
    /// The messages of the part.
    pub message_ids: HashSet<MessageId>,
}

impl Searcher {
    /// What is picked, in that order, as the truth has it. What is not in the truth, or not in the scope, is left
    /// out.
    pub(crate) async fn present(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        picks: Vec<Pick>,
        shown: &HashMap<SessionId, Shown>,
    ) -> Result<Vec<SearchHit>, SearchError> {
        let (mut results, spans): (Vec<SearchHit>, Vec<Span>) = picks
            .iter()
            .filter_map(|pick| {
                let session = shown.get(&pick.session_id)?;
                found(request, pick, session)
                    .filter(|_| request.scope.admits(session.guild_id, session.channel_id))
            })
            .unzip();
        if request.surrounding > 0 {
            self.add_neighbours(request, deadline, &mut results, &spans).await?;
        }
        Ok(results)
    }

    async fn add_neighbours(
        &self,
        request: &ValidatedRequest,
        deadline: &Deadline,
        results: &mut [SearchHit],
        spans: &[Span],
    ) -> Result<(), SearchError> {
        let (guild, channels) = (request.scope.tenant(), request.scope.channels());
        let count = u32::try_from(request.surrounding).unwrap_or(0);
        // One character more tells that there are more.
        let chars = i32::try_from(NEIGHBOUR_CHARS + 1).unwrap_or(i32::MAX);
        let read = search::surrounding(&self.pool, guild, channels, spans, count, chars);
        for found in &mut *results {
            found.surrounding = Some(Surrounding::default());
        }
        for message in deadline.within(Dependency::Postgres, read).await? {
            let found = results.get_mut(message.span).and_then(|found| found.surrounding.as_mut());
            let Some(surrounding) = found else { continue };
            let side = match message.side {
                Side::Before => &mut surrounding.before,
                Side::After => &mut surrounding.after,
            };
            side.push(SurroundingMessage {
                message_id: message.id,
                author_id: message.author_id,
                author_name: message.author_name,
                sent_at: message.sent_at,
                text: Excerpt::cut(message.text.as_str(), NEIGHBOUR_CHARS),
                in_session: message.in_session,
            });
        }
        Ok(())
    }
}

/// A session and where the part that was picked stands in its channel; `None` if nothing of the part still stands.
fn found(request: &ValidatedRequest, pick: &Pick, session: &Shown) -> Option<(SearchHit, Span)> {
    let first = session.messages.first()?;
    let part: Vec<&SessionMessage> =
        session.messages.iter().filter(|message| pick.message_ids.contains(&message.id)).collect();
    let (from, to) = (*part.first()?, *part.last()?);
    let query = request.query.as_str();
    let preview = match pick.chunk {
        Some(_) if !fits(&request.filter, &part) => return None,
        Some(_) => Excerpt::fitting(&part, query),
        None => Excerpt::lines(&session.messages.iter().skip_while(|m| m.id != from.id).collect::<Vec<_>>()),
    };
    let link = |message| link(session.guild_id, session.channel_id, message);
    let found = SearchHit {
        score: pick.score,
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
            number: pick.chunk,
            first_message_id: from.id,
            link: link(from.id),
            message_ids: part.iter().map(|message| message.id).collect(),
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
    Some((found, span))
}

/// Whether a chunk is what was asked for. The index saw to this; its word is checked all the same.
fn fits(filter: &Filter, part: &[&SessionMessage]) -> bool {
    let (first, last) = (part.first().map(|m| m.sent_at), part.last().map(|m| m.sent_at));
    filter.authors.as_ref().is_none_or(|authors| part.iter().any(|m| authors.contains(&m.author_id)))
        && filter.since.is_none_or(|since| last.is_some_and(|last| last >= since))
        && filter.until.is_none_or(|until| first.is_some_and(|first| first < until))
}

/// Opens a message in Discord.
fn link(guild: GuildId, channel: ChannelId, message: MessageId) -> String {
    format!("https://discord.com/channels/{guild}/{channel}/{message}")
}
