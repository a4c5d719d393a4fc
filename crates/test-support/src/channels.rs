//! Channels and threads as a source describes them.

use guildex_store::channels::Channel;

use crate::builders::id;

/// The channel "channel-N" of the guild "guild N".
pub fn channel(guild: i64, number: i64) -> Channel {
    Channel {
        guild_id: id(guild),
        guild_name: format!("guild {guild}"),
        id: id(number),
        name: format!("channel-{number}"),
        parent_id: None,
    }
}

/// A thread of a channel.
pub fn thread(guild: i64, number: i64, parent: i64) -> Channel {
    Channel { parent_id: Some(id(parent)), ..channel(guild, number) }
}
