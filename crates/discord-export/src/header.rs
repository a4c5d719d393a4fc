//! Guild and channel of an export.

use std::borrow::Cow;

use guildex_types::{ChannelId, GuildId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ErrorKind, RejectReason};
use crate::fields;

/// Guild and channel of an export's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Guild id.
    pub guild_id: GuildId,
    /// Guild name, or its id if it has none.
    pub guild_name: String,
    /// Channel or thread.
    pub channel: ChannelInfo,
}

/// A channel or a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Channel id.
    pub id: ChannelId,
    /// Name, or the id if there is none.
    pub name: String,
    /// Channel or thread.
    pub kind: ChannelKind,
    /// Category of a channel or channel of a thread, if known.
    pub parent: Option<Parent>,
}

impl ChannelInfo {
    /// Channel of a thread; `None` for a channel, whose parent is a category.
    pub fn parent_channel(&self) -> Option<&Parent> {
        self.parent.as_ref().filter(|_| self.kind == ChannelKind::Thread)
    }
}

/// Kind of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Text, news or voice channel; its parent is a category.
    Channel,
    /// Public, private or news thread, or forum post; its parent is a channel.
    Thread,
}

/// A category, or the channel of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Channel id.
    pub id: ChannelId,
    /// Name, or the id if there is none.
    pub name: String,
}

#[derive(Deserialize)]
struct RawGuild<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChannel<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    name: Option<Cow<'a, str>>,
    // The exporter also writes the channel of a thread here.
    category: Option<Cow<'a, str>>,
    category_id: Option<Cow<'a, str>>,
}

/// Parses the values of `guild` and `channel`.
pub(crate) fn parse(guild: &RawValue, channel: &RawValue) -> Result<Header, ErrorKind> {
    let in_guild = |reason| ErrorKind::Header { part: "guild", reason };
    let guild: RawGuild<'_> = fields::parse(guild).map_err(in_guild)?;
    if guild.id == "0" {
        return Err(ErrorKind::DirectMessages);
    }
    Ok(Header {
        guild_id: fields::id("id", &guild.id).map_err(in_guild)?,
        guild_name: name_or(guild.name.as_deref(), &guild.id),
        channel: parse_channel(channel).map_err(|reason| ErrorKind::Header { part: "channel", reason })?,
    })
}

fn parse_channel(channel: &RawValue) -> Result<ChannelInfo, RejectReason> {
    let channel: RawChannel<'_> = fields::parse(channel)?;
    let parent = match channel.category_id.as_deref() {
        None | Some("") => None,
        Some(id) => {
            Some(Parent { id: fields::id("categoryId", id)?, name: name_or(channel.category.as_deref(), id) })
        }
    };
    Ok(ChannelInfo {
        id: fields::id("id", &channel.id)?,
        name: name_or(channel.name.as_deref(), &channel.id),
        kind: match &*channel.r#type {
            "GuildPublicThread" | "GuildPrivateThread" | "GuildNewsThread" => ChannelKind::Thread,
            _ => ChannelKind::Channel,
        },
        parent,
    })
}

fn name_or(name: Option<&str>, id: &str) -> String {
    name.and_then(fields::name).unwrap_or_else(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(guild: &str, channel: &str) -> Result<Header, ErrorKind> {
        let raw = |json: &str| -> Box<RawValue> { serde_json::from_str(json).unwrap() };
        parse(&raw(guild), &raw(channel))
    }

    const GUILD: &str = r#"{"id":"7","name":"Makers","iconUrl":null}"#;

    #[test]
    fn the_parent_of_a_thread_is_a_channel_and_of_a_channel_a_category() {
        let thread =
            r#"{"id":"9","type":"GuildPublicThread","categoryId":"8","category":"help","name":"glue"}"#;
        let thread = header(GUILD, thread).unwrap();
        assert_eq!((thread.guild_id.get(), thread.guild_name.as_str()), (7, "Makers"));
        assert_eq!(thread.channel.parent_channel().unwrap().name, "help");

        let channel =
            r#"{"id":"8","type":"GuildTextChat","categoryId":"5","category":"Making","name":"help"}"#;
        let channel = header(GUILD, channel).unwrap().channel;
        assert_eq!(channel.parent_channel(), None);
        assert_eq!(channel.parent.unwrap().id.get(), 5);
    }

    #[test]
    fn older_exports_without_category_ids_are_read() {
        let channel =
            header(GUILD, r#"{"id":"8","type":"GuildTextChat","category":"Making"}"#).unwrap().channel;
        assert_eq!((channel.name.as_str(), channel.parent), ("8", None));
    }

    #[test]
    fn direct_messages_and_invalid_ids_are_distinguished() {
        let channel = r#"{"id":"8","type":"DirectTextChat"}"#;
        assert!(matches!(header(r#"{"id":"0"}"#, channel), Err(ErrorKind::DirectMessages)));
        assert!(matches!(header(r#"{"id":7}"#, channel), Err(ErrorKind::Header { part: "guild", .. })));
        let junk = header(GUILD, r#"{"id":"secret","type":"GuildTextChat"}"#).unwrap_err();
        assert_eq!(junk.to_string(), "invalid `channel`: `id` is not an id");
    }
}
