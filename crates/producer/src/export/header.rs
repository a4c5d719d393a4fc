//! What an export says of its guild and channel.

use std::borrow::Cow;

use guildex_types::{ChannelId, GuildId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Fault, Reason};
use super::typed;

/// Where an export's messages were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tenant.
    pub guild_id: GuildId,
    /// Its name; its id where it has none.
    pub guild_name: String,
    /// The channel or thread.
    pub channel: ChannelInfo,
}

/// A channel or a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its snowflake.
    pub id: ChannelId,
    /// Its name; its id where it has none.
    pub name: String,
    /// Which of the two it is.
    pub kind: ChannelKind,
    /// What it stands under, where that is known.
    pub parent: Option<Parent>,
}

impl ChannelInfo {
    /// The channel that a thread belongs to; `None` for a channel, whose parent is a category.
    pub fn parent_channel(&self) -> Option<&Parent> {
        self.parent.as_ref().filter(|_| self.kind == ChannelKind::Thread)
    }
}

/// Whether messages stand in a channel or in a thread under one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Text, news and voice channels; their parent is a category.
    Channel,
    /// Public, private and news threads, and a forum's posts; their parent is a channel.
    Thread,
}

/// A category, or the channel of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its snowflake.
    pub id: ChannelId,
    /// Its name; its id where it has none.
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
    // The exporter calls a thread's channel its category, too.
    category: Option<Cow<'a, str>>,
    category_id: Option<Cow<'a, str>>,
}

/// Reads the values of `guild` and `channel`.
pub(super) fn read(guild: &RawValue, channel: &RawValue) -> Result<Header, Fault> {
    let in_guild = |reason| Fault::Header { part: "guild", reason };
    let guild: RawGuild<'_> = typed::read(guild).map_err(in_guild)?;
    if guild.id == "0" {
        return Err(Fault::DirectMessages);
    }
    Ok(Header {
        guild_id: typed::id("id", &guild.id).map_err(in_guild)?,
        guild_name: name_or(guild.name.as_deref(), &guild.id),
        channel: read_channel(channel).map_err(|reason| Fault::Header { part: "channel", reason })?,
    })
}

fn read_channel(channel: &RawValue) -> Result<ChannelInfo, Reason> {
    let channel: RawChannel<'_> = typed::read(channel)?;
    let parent = match channel.category_id.as_deref() {
        None | Some("") => None,
        Some(id) => {
            Some(Parent { id: typed::id("categoryId", id)?, name: name_or(channel.category.as_deref(), id) })
        }
    };
    Ok(ChannelInfo {
        id: typed::id("id", &channel.id)?,
        name: name_or(channel.name.as_deref(), &channel.id),
        kind: match &*channel.r#type {
            "GuildPublicThread" | "GuildPrivateThread" | "GuildNewsThread" => ChannelKind::Thread,
            _ => ChannelKind::Channel,
        },
        parent,
    })
}

fn name_or(name: Option<&str>, id: &str) -> String {
    name.and_then(typed::name).unwrap_or_else(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(guild: &str, channel: &str) -> Result<Header, Fault> {
        let raw = |json: &str| -> Box<RawValue> { serde_json::from_str(json).unwrap() };
        read(&raw(guild), &raw(channel))
    }

    const GUILD: &str = r#"{"id":"7","name":"Makers","iconUrl":null}"#;

    #[test]
    fn a_thread_stands_under_its_channel_and_a_channel_under_its_category() {
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
    fn older_exports_without_category_ids_are_taken() {
        let channel =
            header(GUILD, r#"{"id":"8","type":"GuildTextChat","category":"Making"}"#).unwrap().channel;
        assert_eq!((channel.name.as_str(), channel.parent), ("8", None));
    }

    #[test]
    fn direct_messages_and_unreadable_ids_are_told_apart() {
        let channel = r#"{"id":"8","type":"DirectTextChat"}"#;
        assert!(matches!(header(r#"{"id":"0"}"#, channel), Err(Fault::DirectMessages)));
        assert!(matches!(header(r#"{"id":7}"#, channel), Err(Fault::Header { part: "guild", .. })));
        let junk = header(GUILD, r#"{"id":"secret","type":"GuildTextChat"}"#).unwrap_err();
        assert_eq!(junk.to_string(), "its `channel` cannot be read: `id` is no id");
    }
}
