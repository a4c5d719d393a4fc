//! Plans guilds and the sizes of their channels.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Maximum messages of a channel; larger guilds have more channels.
const MAX_CHANNEL: u64 = 50_000;
/// Channels of a guild halve in size down to this number of messages.
const MIN_CHANNEL: u64 = 200;

/// Planned channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// Number of the guild, from 1.
    pub guild: u64,
    /// Number of the channel in the guild, from 1.
    pub number: u64,
    pub messages: u64,
    /// Messages of the guild, which determine its number of members.
    pub guild_messages: u64,
}

/// Plans the channels of `guilds` guilds with `messages` messages in total. The n-th guild has a share proportional to 1/n
/// (Zipf's law), and within a guild a few channels have most of the messages.
pub(super) fn channels(messages: u64, guilds: u32) -> Vec<Planned> {
    let guilds = u64::from(guilds.max(1)).min(messages);
    let total: f64 = (1..=guilds).map(|place| 1.0 / place as f64).sum();
    let (mut planned, mut share, mut given) = (Vec::new(), 0.0, 0);
    for guild in 1..=guilds {
        share += 1.0 / guild as f64;
        // Cumulative, so that rounding carries over to the next guild; each has at least one message.
        let until = if guild == guilds { messages } else { (messages as f64 * share / total) as u64 };
        let guild_messages = until.saturating_sub(given).max(1).min(messages - given - (guilds - guild));
        given += guild_messages;
        let (mut left, mut number) = (guild_messages, 0);
        while left > 0 {
            let size = left.div_ceil(2).clamp(MIN_CHANNEL, MAX_CHANNEL).min(left);
            number += 1;
            left -= size;
            planned.push(Planned { guild, number, messages: size, guild_messages });
        }
    }
    planned
}

impl Planned {
    /// Generator of the channel.
    pub fn rng(&self, seed: u64) -> ChaCha8Rng {
        rng(seed, self.guild, self.number)
    }
}

/// Creates a generator for one item of a guild: independent of others, and the same on every platform.
pub(super) fn rng(seed: u64, guild: u64, item: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    for (chunk, part) in bytes.chunks_exact_mut(8).zip([seed, guild, item]) {
        chunk.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_messages_are_planned_and_few_guilds_have_most() {
        for (messages, guilds) in [(1, 1), (10, 100), (1_000, 7), (1_000_000, 50), (10_000_000, 200)] {
            let planned = channels(messages, guilds);
            assert_eq!(planned.iter().map(|channel| channel.messages).sum::<u64>(), messages);
            assert!(planned.iter().all(|channel| (1..=MAX_CHANNEL).contains(&channel.messages)));
            let last = planned.iter().map(|channel| channel.guild).max().unwrap();
            assert_eq!(last, u64::from(guilds).min(messages));
        }
        let messages_of = |guild| {
            channels(1_000_000, 50).iter().filter(|c| c.guild == guild).map(|c| c.messages).sum::<u64>()
        };
        assert!(messages_of(1) > 200_000 && messages_of(50) < 5_000);
    }
}
