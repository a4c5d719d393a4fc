//! Parses one message of an export.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter;

use chrono::{DateTime, Datelike, Utc};
use guildex_types::{Author, Links, Message, MessageId, MessageKind, SearchText, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::RejectReason;
use crate::fields;
use crate::header::Header;

/// Parses `raw` as a message in the channel of `header`.
pub(crate) fn parse(raw: &RawValue, header: &Header) -> Result<Message, RejectReason> {
    let raw: RawMessage<'_> = fields::parse(raw)?;
    Ok(Message {
        guild_id: header.guild_id,
        channel_id: header.channel.id,
        id: fields::id("id", &raw.id)?,
        kind: raw.kind(),
        sent_at: time("timestamp", &raw.timestamp)?,
        edited_at: raw.timestamp_edited.as_deref().map(|at| time("timestampEdited", at)).transpose()?,
        links: Links { reply_to: raw.reply_to(header)?, mentions: raw.mentions()? },
        text: raw.text()?,
        author: raw.author.parse()?,
    })
}

/// Reads the id of an invalid message.
pub(crate) fn parse_id(raw: &RawValue) -> Option<MessageId> {
    #[derive(Deserialize)]
    struct Identified<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    fields::parse::<Identified<'_>>(raw).ok()?.id.parse().ok()
}

fn time(field: &'static str, text: &str) -> Result<DateTime<Utc>, RejectReason> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .filter(|time| (2015..=2200).contains(&time.year()))
        .ok_or(RejectReason::InvalidTime { field })
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
    /// The exporter names the types it knows and writes the number of the others: 20 and 23 are commands.
    fn kind(&self) -> MessageKind {
        match &*self.r#type {
            "Default" | "Reply" | "20" | "ChatInputCommand" | "23" | "ContextMenuCommand" => {
                MessageKind::Conversation
            }
            _ => MessageKind::System,
        }
    }

    /// Forwards, pins and crossposts also have a reference but are not replies.
    fn reply_to(&self, header: &Header) -> Result<Option<MessageId>, RejectReason> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let forwards = reference.r#type.as_deref() == Some("Forward") || self.forwarded_message.is_some();
        if self.r#type != "Reply" || forwards {
            return Ok(None);
        }
        if let Some(channel) = reference.channel_id.as_deref()
            && fields::id("reference.channelId", channel) != Ok(header.channel.id)
        {
            return Ok(None);
        }
        reference.message_id.as_deref().map(|id| fields::id("reference.messageId", id)).transpose()
    }

    fn mentions(&self) -> Result<Vec<UserId>, RejectReason> {
        let mut seen = HashSet::new();
        let mut mentions = Vec::new();
        for user in self.mentions.iter().flatten() {
            let id = fields::id("mentions.id", &user.id)?;
            if seen.insert(id) {
                mentions.push(id);
            }
        }
        Ok(mentions)
    }

    /// Joins the searchable text of the message with that of the message it forwards.
    fn text(&self) -> Result<SearchText, RejectReason> {
        let own = parts(&self.content, &self.attachments, &self.embeds, &self.stickers);
        let forwarded = self.forwarded_message.iter().flat_map(|forwarded| {
            parts(&forwarded.content, &forwarded.attachments, &forwarded.embeds, &forwarded.stickers)
        });
        let text = SearchText::from_parts(own.chain(forwarded));
        if text.as_str().chars().count() > SearchText::MAX_CHARS {
            Err(RejectReason::TooLong)
        } else {
            Ok(text)
        }
    }
}

/// Searchable text: the content, and the names of files, embeds and stickers.
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

/// A list that older exporters leave out.
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

/// A member, bot or webhook; the exporter marks webhooks as bots.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthor<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    nickname: Option<Cow<'a, str>>,
    discriminator: Option<Cow<'a, str>>,
    #[serde(default)]
    is_bot: bool,
}

impl RawAuthor<'_> {
    fn parse(&self) -> Result<Author, RejectReason> {
        let id: UserId = fields::id("author.id", &self.id)?;
        Ok(Author {
            id,
            username: fields::name(&self.name).unwrap_or_else(|| id.to_string()),
            // The exporter writes the global name where there is no nickname.
            global_name: None,
            display_name: self.nickname.as_deref().and_then(fields::name),
            is_bot: self.is_bot,
            // Bots have a discriminator, webhooks do not.
            is_webhook: self.is_bot && self.discriminator.as_deref() == Some("0000"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{ChannelInfo, ChannelKind};
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

    /// Parses a plain message with the fields of `changes` added or replaced.
    fn message(changes: Value) -> Result<Message, RejectReason> {
        let mut message = json!({
            "id": "11", "type": "Default", "timestamp": "2024-03-01T12:00:00.5+02:00", "timestampEdited": null,
            "content": "hello", "author": {"id": "3", "name": "ann", "nickname": "Ann"},
        });
        message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let raw: Box<RawValue> = serde_json::from_str(&message.to_string()).unwrap();
        parse(&raw, &header())
    }

    #[test]
    fn a_text_beyond_the_limit_is_rejected() {
        assert_eq!(message(json!({"content": "a".repeat(32_001)})), Err(RejectReason::TooLong));
        assert!(message(json!({"content": "é".repeat(32_000)})).is_ok());
    }

    #[test]
    fn times_are_converted_to_utc_and_lists_may_be_missing() {
        let message = message(json!({"timestampEdited": "2024-03-01T12:05:00+00:00"})).unwrap();
        assert_eq!(message.sent_at.to_rfc3339(), "2024-03-01T10:00:00.500+00:00");
        assert_eq!(message.edited_at.unwrap().to_rfc3339(), "2024-03-01T12:05:00+00:00");
        assert_eq!(
            (message.author.name(), message.author.username.as_str(), message.author.is_bot),
            ("Ann", "ann", false)
        );
        assert_eq!(message.links, Links::default());
    }

    #[test]
    fn commands_are_conversation_and_unknown_types_are_system_messages() {
        for kind in ["Default", "Reply", "20", "23", "ChatInputCommand", "ContextMenuCommand"] {
            assert_eq!(message(json!({"type": kind})).unwrap().kind, MessageKind::Conversation, "{kind}");
        }
        for kind in ["GuildMemberJoin", "ChannelPinnedMessage", "Call", "ThreadCreated", "21", "8", "", "?"] {
            assert_eq!(message(json!({"type": kind})).unwrap().kind, MessageKind::System, "{kind}");
        }
    }

    #[test]
    fn only_replies_within_the_channel_are_links() {
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
    fn names_of_files_embeds_and_stickers_are_searchable_also_in_a_forward() {
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
    fn a_blank_nickname_falls_back_to_the_name_and_a_blank_name_to_the_id() {
        let name = |name: &str, nickname: Value| {
            let author = json!({"id": "3", "name": name, "nickname": nickname, "isBot": true});
            let author = message(json!({"author": author})).unwrap().author;
            assert!(author.is_bot && !author.is_webhook);
            author.name().to_owned()
        };
        assert_eq!(name("ann", json!("  \n")), "ann");
        assert_eq!(name("ann", Value::Null), "ann");
        assert_eq!(name("\u{0}", json!("")), "3");
    }

    #[test]
    fn a_bot_without_a_discriminator_is_a_webhook() {
        let is_webhook = |discriminator: &str, is_bot: bool| {
            let author = json!({"id": "3", "name": "ann", "discriminator": discriminator, "isBot": is_bot});
            message(json!({"author": author})).unwrap().author.is_webhook
        };
        assert!(is_webhook("0000", true));
        assert!(!is_webhook("0042", true), "a bot");
        assert!(!is_webhook("0000", false), "a member");
    }

    #[test]
    fn a_member_mentioned_twice_is_linked_once() {
        let mentions = json!({"mentions": [{"id": "5"}, {"id": "4"}, {"id": "5"}]});
        let mentions = message(mentions).unwrap().links.mentions;
        assert_eq!(mentions.into_iter().map(UserId::get).collect::<Vec<_>>(), [5, 4]);
    }

    #[test]
    fn an_invalid_message_is_rejected_without_quoting_it() {
        let cases = [
            (json!({"id": 11}), "`id`: a field is missing or has the wrong type"),
            (json!({"id": "secret"}), "`id` is not an id"),
            (json!({"author": {"name": "secret"}}), "`author`: a field is missing or has the wrong type"),
            (json!({"author": {"id": "-3"}}), "`author.id` is not an id"),
            (json!({"content": ["secret"]}), "`content`: a field is missing or has the wrong type"),
            (
                json!({"embeds": [{}, {"title": {"secret": 1}}]}),
                "`embeds[1].title`: a field is missing or has the wrong type",
            ),
            (json!({"mentions": [{"id": "secret"}]}), "`mentions.id` is not an id"),
            (
                json!({"type": "Reply", "reference": {"messageId": "secret"}}),
                "`reference.messageId` is not an id",
            ),
            (json!({"timestamp": "secret"}), "`timestamp` is not a time between 2015 and 2200"),
            (json!({"timestamp": "2014-12-31T23:59:59Z"}), "`timestamp` is not a time between 2015 and 2200"),
            (
                json!({"timestampEdited": "2201-01-01T00:00:00Z"}),
                "`timestampEdited` is not a time between 2015 and 2200",
            ),
        ];
        for (changes, reason) in cases {
            assert_eq!(message(changes).unwrap_err().to_string(), reason);
        }
    }
}
