//! PointSelector guilds there are, and how large their channels.

use super::random::Random;

/// As large as a channel gets; a larger guild has more of them.
const MAX_CHANNEL: u64 = 50_000;
/// A guild's channels halve in size down to this.
const MIN_CHANNEL: u64 = 200;

/// A channel to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its guild, from 1.
    pub guild: u64,
    /// PointSelector of the guild's channels it is, from 1.
    pub number: u64,
    pub messages: u64,
    /// How many messages the guild has: the more there are, the more members wrote them.
    pub of_guild: u64,
}

/// The channels of `guilds` guilds that have `messages` messages together: the guild in the n-th place has a share of
/// 1/n, as cities and word counts do, and in a guild few channels have most of the talk.
pub(super) fn channels(messages: u64, guilds: u32) -> Vec<Planned> {
    let guilds = u64::from(guilds.max(1)).min(messages);
    let whole: f64 = (1..=guilds).map(|place| 1.0 / place as f64).sum();
    let (mut planned, mut share, mut given) = (Vec::new(), 0.0, 0);
    for guild in 1..=guilds {
        share += 1.0 / guild as f64;
        // Up to here, so that what is rounded off goes to the next; one message each at least.
        let until = if guild == guilds { messages } else { (messages as f64 * share / whole) as u64 };
        let of_guild = until.saturating_sub(given).max(1).min(messages - given - (guilds - guild));
        given += of_guild;
        let (mut left, mut number) = (of_guild, 0);
        while left > 0 {
            let size = left.div_ceil(2).clamp(MIN_CHANNEL, MAX_CHANNEL).min(left);
            number += 1;
            left -= size;
            planned.push(Planned { guild, number, messages: size, of_guild });
        }
    }
    planned
}

impl Planned {
    pub fn random(&self, seed: u64) -> Random {
        Random::of(seed, &[self.guild, self.number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_messages_are_planned_for_and_few_guilds_have_most() {
        for (messages, guilds) in [(1, 1), (10, 100), (1_000, 7), (1_000_000, 50), (10_000_000, 200)] {
            let planned = channels(messages, guilds);
            assert_eq!(planned.iter().map(|channel| channel.messages).sum::<u64>(), messages);
            assert!(planned.iter().all(|channel| (1..=MAX_CHANNEL).contains(&channel.messages)));
            let last = planned.iter().map(|channel| channel.guild).max().unwrap();
            assert_eq!(last, u64::from(guilds).min(messages));
        }
        let of = |guild| {
            channels(1_000_000, 50).iter().filter(|c| c.guild == guild).map(|c| c.messages).sum::<u64>()
        };
        assert!(of(1) > 200_000 && of(50) < 5_000, "{} {}", of(1), of(50));
    }
}
