//! One message of an export.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter;

use chrono::{DateTime, Datelike, Utc};
use guildex_types::{Author, Links, Message, MessageId, MessageKind, SearchText, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Reason;
use super::header::Header;
use super::typed;

/// The message that `raw` is, under `header`.
pub(super) fn read(raw: &RawValue, header: &Header) -> Result<Message, Reason> {
    let raw: RawMessage<'_> = typed::read(raw)?;
    Ok(Message {
        guild_id: header.guild_id,
        channel_id: header.channel.id,
        id: typed::id("id", &raw.id)?,
        kind: raw.kind(),
        sent_at: time("timestamp", &raw.timestamp)?,
        edited_at: raw.timestamp_edited.as_deref().map(|at| time("timestampEdited", at)).transpose()?,
        links: Links { reply_to: raw.reply_to(header)?, mentions: raw.mentions()? },
        text: raw.text()?,
        author: raw.author.read()?,
    })
}

/// The id of the message that `raw` should have been.
pub(super) fn read_id(raw: &RawValue) -> Option<MessageId> {
    #[derive(Deserialize)]
    struct Identified<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    typed::read::<Identified<'_>>(raw).ok()?.id.parse().ok()
}

fn time(field: &'static str, text: &str) -> Result<DateTime<Utc>, Reason> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .filter(|time| (2015..=2200).contains(&time.year()))
        .ok_or(Reason::Time { field })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    timestamp_edited: Option<Cow<'a, str>>,
    #[serde(borrow)]
    author: RawAuthor<'a>,
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    attachments: Many<RawAttachment<'a>>,
    embeds: Many<RawEmbed<'a>>,
    stickers: Many<RawSticker<'a>>,
    mentions: Many<RawMention<'a>>,
    reference: Option<RawReference<'a>>,
    forwarded_message: Option<RawForward<'a>>,
}

impl RawMessage<'_> {
    /// The exporter names the kinds that it knows and numbers the others: 20 and 23 are command calls.
    fn kind(&self) -> MessageKind {
        match &*self.r#type {
            "Default" | "Reply" | "20" | "ChatInputCommand" | "23" | "ContextMenuCommand" => {
                MessageKind::Conversation
            }
            _ => MessageKind::System,
        }
    }

    /// Forwards, pins and crossposts refer to messages too, but answer none.
    fn reply_to(&self, header: &Header) -> Result<Option<MessageId>, Reason> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let forwards = reference.r#type.as_deref() == Some("Forward") || self.forwarded_message.is_some();
        if self.r#type != "Reply" || forwards {
            return Ok(None);
        }
        if let Some(channel) = reference.channel_id.as_deref()
            && typed::id("reference.channelId", channel) != Ok(header.channel.id)
        {
            return Ok(None);
        }
        reference.message_id.as_deref().map(|id| typed::id("reference.messageId", id)).transpose()
    }

    fn mentions(&self) -> Result<Vec<UserId>, Reason> {
        let mut seen = HashSet::new();
        let mut mentions = Vec::new();
        for user in self.mentions.iter().flatten() {
            let id = typed::id("mentions.id", &user.id)?;
            if seen.insert(id) {
                mentions.push(id);
            }
        }
        Ok(mentions)
    }

    /// The message's own words and names, then those of the message that it forwards.
    fn text(&self) -> Result<SearchText, Reason> {
        let own = parts(&self.content, &self.attachments, &self.embeds, &self.stickers);
        let forwarded = self.forwarded_message.iter().flat_map(|forwarded| {
            parts(&forwarded.content, &forwarded.attachments, &forwarded.embeds, &forwarded.stickers)
        });
        let text = SearchText::from_parts(own.chain(forwarded));
        if text.as_str().chars().count() > SearchText::MAX_CHARS { Err(Reason::TooLong) } else { Ok(text) }
    }
}

/// What can be found of a message: its content and the names of what hangs on it.
fn parts<'a>(
    content: &'a str,
    attachments: &'a Many<RawAttachment<'_>>,
    embeds: &'a Many<RawEmbed<'_>>,
    stickers: &'a Many<RawSticker<'_>>,
) -> impl Iterator<Item = &'a str> {
    let files = attachments.iter().flatten().map(|attachment| &*attachment.file_name);
    let titles = embeds.iter().flatten().filter_map(|embed| embed.title.as_deref());
    let stickers = stickers.iter().flatten().map(|sticker| &*sticker.name);
    iter::once(content).chain(files).chain(titles).chain(stickers)
}

/// Older exporters leave out the lists that they do not know.
type Many<T> = Option<Vec<T>>;

#[derive(Deserialize)]
struct RawForward<'a> {
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    attachments: Many<RawAttachment<'a>>,
    embeds: Many<RawEmbed<'a>>,
    stickers: Many<RawSticker<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAttachment<'a> {
    #[serde(borrow)]
    file_name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawEmbed<'a> {
    title: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawSticker<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawMention<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReference<'a> {
    r#type: Option<Cow<'a, str>>,
    message_id: Option<Cow<'a, str>>,
    channel_id: Option<Cow<'a, str>>,
}

/// A member, a bot, or a webhook, which the exporter shows as a bot.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthor<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    nickname: Option<Cow<'a, str>>,
    #[serde(default)]
    is_bot: bool,
}

impl RawAuthor<'_> {
    fn read(&self) -> Result<Author, Reason> {
        let id: UserId = typed::id("author.id", &self.id)?;
        let name = self.nickname.as_deref().and_then(typed::name).or_else(|| typed::name(&self.name));
        Ok(Author { id, name: name.unwrap_or_else(|| id.to_string()), is_bot: self.is_bot })
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::{ChannelInfo, ChannelKind};
    use super::*;
    use serde_json::{Value, json};

    fn header() -> Header {
        let channel = ChannelInfo {
            id: "9".parse().unwrap(),
            name: "help".into(),
            kind: ChannelKind::Channel,
            parent: None,
        };
        Header { guild_id: "7".parse().unwrap(), guild_name: "Makers".into(), channel }
    }

    /// A plain message with the fields of `changes` put over its own.
    fn message(changes: Value) -> Result<Message, Reason> {
        let mut message = json!({
            "id": "11", "type": "Default", "timestamp": "2024-03-01T12:00:00.5+02:00", "timestampEdited": null,
            "content": "hello", "author": {"id": "3", "name": "ann", "nickname": "Ann"},
        });
        message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let raw: Box<RawValue> = serde_json::from_str(&message.to_string()).unwrap();
        read(&raw, &header())
    }

    #[test]
    fn a_text_that_no_message_can_have_is_refused_and_a_long_one_is_not() {
        assert_eq!(message(json!({"content": "a".repeat(32_001)})), Err(Reason::TooLong));
        assert!(message(json!({"content": "é".repeat(32_000)})).is_ok());
    }

    #[test]
    fn times_are_brought_to_utc_and_lists_may_be_missing() {
        let message = message(json!({"timestampEdited": "2024-03-01T12:05:00+00:00"})).unwrap();
        assert_eq!(message.sent_at.to_rfc3339(), "2024-03-01T10:00:00.500+00:00");
        assert_eq!(message.edited_at.unwrap().to_rfc3339(), "2024-03-01T12:05:00+00:00");
        assert_eq!((message.author.name.as_str(), message.author.is_bot), ("Ann", false));
        assert_eq!(message.links, Links::default());
    }

    #[test]
    fn command_calls_are_conversation_and_everything_unknown_is_the_systems() {
        for kind in ["Default", "Reply", "20", "23", "ChatInputCommand", "ContextMenuCommand"] {
            assert_eq!(message(json!({"type": kind})).unwrap().kind, MessageKind::Conversation, "{kind}");
        }
        for kind in ["GuildMemberJoin", "ChannelPinnedMessage", "Call", "ThreadCreated", "21", "8", "", "?"] {
            assert_eq!(message(json!({"type": kind})).unwrap().kind, MessageKind::System, "{kind}");
        }
    }

    #[test]
    fn only_a_reply_within_the_channel_is_a_reply() {
        let reply_to = |changes| message(changes).unwrap().links.reply_to.map(MessageId::get);
        let reference = json!({"messageId": "10", "channelId": "9", "guildId": "7"});
        assert_eq!(reply_to(json!({"type": "Reply", "reference": reference})), Some(10));
        assert_eq!(reply_to(json!({"type": "Reply", "reference": {"messageId": "10"}})), Some(10));
        assert_eq!(reply_to(json!({"type": "Reply", "reference": {"messageId": null}})), None);
        assert_eq!(reply_to(json!({"type": "Reply"})), None);
        assert_eq!(reply_to(json!({"type": "Default", "reference": reference})), None);
        assert_eq!(
            reply_to(json!({"type": "Reply", "reference": {"messageId": "10", "channelId": "8"}})),
            None
        );
        let forward = json!({"type": "Forward", "messageId": "10", "channelId": "9"});
        assert_eq!(reply_to(json!({"type": "Reply", "reference": forward})), None);
        let snapshot = json!({"type": "Reply", "reference": reference, "forwardedMessage": {"content": "x"}});
        assert_eq!(reply_to(snapshot), None);
    }

    #[test]
    fn names_of_files_titles_and_stickers_can_be_found_also_in_a_forward() {
        let message = message(json!({
            "content": "look",
            "attachments": [{"fileName": "cat.png"}],
            "embeds": [{"title": "On cats", "description": "long"}, {"title": ""}, {"description": "no title"}],
            "stickers": [{"name": "purr"}],
            "forwardedMessage": {"content": "from afar", "attachments": [{"fileName": "dog.png"}]},
        }));
        assert_eq!(message.unwrap().text.as_str(), "look\ncat.png\nOn cats\npurr\nfrom afar\ndog.png");
    }

    #[test]
    fn a_blank_nickname_gives_way_to_the_name_and_a_blank_name_to_the_id() {
        let name = |name: &str, nickname: Value| {
            let author = json!({"id": "3", "name": name, "nickname": nickname, "isBot": true});
            let author = message(json!({"author": author})).unwrap().author;
            assert!(author.is_bot);
            author.name
        };
        assert_eq!(name("ann", json!("  \n")), "ann");
        assert_eq!(name("ann", Value::Null), "ann");
        assert_eq!(name("\u{0}", json!("")), "3");
    }

    #[test]
    fn a_member_mentioned_twice_is_linked_once() {
        let mentions = json!({"mentions": [{"id": "5"}, {"id": "4"}, {"id": "5"}]});
        let mentions = message(mentions).unwrap().links.mentions;
        assert_eq!(mentions.into_iter().map(UserId::get).collect::<Vec<_>>(), [5, 4]);
    }

    #[test]
    fn what_is_no_message_is_rejected_without_being_quoted() {
        let cases = [
            (json!({"id": 11}), "at `id`: a field is missing or has the wrong type"),
            (json!({"id": "secret"}), "`id` is no id"),
            (json!({"author": {"name": "secret"}}), "at `author`: a field is missing or has the wrong type"),
            (json!({"author": {"id": "-3"}}), "`author.id` is no id"),
            (json!({"content": ["secret"]}), "at `content`: a field is missing or has the wrong type"),
            (
                json!({"embeds": [{}, {"title": {"secret": 1}}]}),
                "at `embeds[1].title`: a field is missing or has the wrong type",
            ),
            (json!({"mentions": [{"id": "secret"}]}), "`mentions.id` is no id"),
            (
                json!({"type": "Reply", "reference": {"messageId": "secret"}}),
                "`reference.messageId` is no id",
            ),
            (json!({"timestamp": "secret"}), "`timestamp` is no time between 2015 and 2200"),
            (json!({"timestamp": "2014-12-31T23:59:59Z"}), "`timestamp` is no time between 2015 and 2200"),
            (
                json!({"timestampEdited": "2201-01-01T00:00:00Z"}),
                "`timestampEdited` is no time between 2015 and 2200",
            ),
        ];
        for (changes, reason) in cases {
            assert_eq!(message(changes).unwrap_err().to_string(), reason);
        }
    }
}
