//! Writes a channel passage by passage in the exporter's layout.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::learn::{Chat, Said};
use super::options::Generate;
use super::plan::{Planned, rng};

/// Number of consecutive messages taken from a real channel.
const PASSAGE: Range<usize> = 40..400;
/// Upper bound of pauses in milliseconds: the pauses of a quiet channel would add up to centuries in a large one.
const MAX_PAUSE: u64 = 6 * 3_600_000;
/// Number of recent messages that replies can refer to.
const RECENT: usize = 1_000;
/// Average messages per member of a guild.
const MESSAGES_PER_MEMBER: u64 = 60;
/// Range of channels' start times in Unix seconds: five years from 2018-01-01.
const START: Range<i64> = 1_514_764_800..1_514_764_800 + 5 * 365 * 86_400;
/// Discord's epoch 2015-01-01 in Unix milliseconds.
const DISCORD_EPOCH: i64 = 1_420_070_400_000;

/// Writes the export of a channel and returns the size of the file.
pub(super) fn channel(chat: &Chat, planned: &Planned, options: &Generate) -> io::Result<u64> {
    let folder = options.out.join(format!("guild-{:04}", planned.guild));
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("channel-{:03}.json.gz", planned.number));
    // The serializer writes a few bytes at a time, and calls to the compressor are slow.
    let file = GzEncoder::new(File::create(&path)?, Compression::fast());
    let mut file = BufWriter::with_capacity(1 << 18, file);
    Channel::new(chat, planned, options.seed).write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
    Ok(path.metadata()?.len())
}

/// Channel being written.
struct Channel<'a> {
    chat: &'a Chat,
    planned: &'a Planned,
    seed: u64,
    rng: ChaCha8Rng,
    now: DateTime<Utc>,
    /// Ids of recent messages, newest last.
    recent: VecDeque<u64>,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: String,
    r#type: &'static str,
    timestamp: String,
    timestamp_edited: Option<String>,
    call_ended_timestamp: Option<String>,
    is_pinned: bool,
    content: &'a str,
    author: Member<'a>,
    attachments: [(); 0],
    embeds: [(); 0],
    stickers: [(); 0],
    reactions: [(); 0],
    mentions: Vec<Member<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
    inline_emojis: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    id: String,
    name: &'a str,
    discriminator: &'static str,
    nickname: &'a str,
    color: Option<()>,
    is_bot: bool,
    roles: [(); 0],
    avatar_url: Option<()>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    message_id: String,
    channel_id: String,
    guild_id: String,
}

impl<'a> Channel<'a> {
    fn new(chat: &'a Chat, planned: &'a Planned, seed: u64) -> Self {
        let mut rng = planned.rng(seed);
        let now = DateTime::from_timestamp(rng.random_range(START), 0).unwrap_or_default();
        let recent = VecDeque::with_capacity(RECENT);
        Self { chat, planned, seed, rng, now, recent, text: String::new() }
    }

    /// Id of the channel or of its guild, which does not depend on the seed.
    fn id(&self, is_channel: bool) -> u64 {
        let number = if is_channel { self.planned.number } else { 0 };
        (self.planned.guild << 32) + (number << 22) + 1
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        let (guild, channel) = (self.id(false).to_string(), self.id(true).to_string());
        let Planned { guild: number, number: channel_number, messages, .. } = self.planned;
        let head = json!({
            "guild": {"id": guild, "name": format!("Guild {number}"), "iconUrl": null},
            "channel": {"id": channel, "type": "GuildTextChat", "categoryId": null, "category": null,
                        "name": format!("channel-{channel_number}"), "topic": null},
            "dateRange": {"after": null, "before": null},
            "exportedAt": "2025-01-01T00:00:00+00:00",
        });
        let head = serde_json::to_string_pretty(&head)?;
        out.write_all(head.trim_end_matches("\n}").as_bytes())?;
        out.write_all(b",\n  \"messages\": [")?;
        let mut left = *messages;
        while left > 0 {
            let rng = &mut self.rng;
            let Some(source) = self.chat.channels.choose(rng) else { break };
            let from = rng.random_range(0..source.len());
            let length = rng.random_range(PASSAGE);
            for (place, said) in source.iter().skip(from).take(length).enumerate() {
                if left == 0 {
                    break;
                }
                if left < *messages {
                    out.write_all(b",")?;
                }
                left -= 1;
                self.message(said, place, out)?;
            }
        }
        write!(out, "\n  ],\n  \"messageCount\": {messages}\n}}\n")
    }

    fn message(&mut self, said: &'a Said, place: usize, out: &mut impl Write) -> io::Result<()> {
        // Varies within a second, to which the source may be rounded. Times increase strictly, like ids.
        let gap = said.gap.min(MAX_PAUSE).saturating_sub(500) + self.rng.random_range(0..1_000);
        self.now += TimeDelta::milliseconds(i64::try_from(gap).unwrap_or(0).max(1));
        let low = self.rng.random_range(0..1_u64 << 22);
        let id = ((self.now.timestamp_millis() - DISCORD_EPOCH).unsigned_abs() << 22) | low;
        // Only within this passage; earlier messages come from other passages.
        let answered = said.reply.map(|back| back as usize).filter(|back| *back <= place);
        let answered =
            answered.and_then(|back| self.recent.len().checked_sub(back)).and_then(|at| self.recent.get(at));
        let reference = answered.map(|id| Reference {
            message_id: id.to_string(),
            channel_id: self.id(true).to_string(),
            guild_id: self.id(false).to_string(),
        });
        let mut text = std::mem::take(&mut self.text);
        self.chat.splice(said, &mut self.rng, &mut text);
        let entry = Entry {
            id: id.to_string(),
            r#type: if reference.is_some() { "Reply" } else { "Default" },
            timestamp: self.now.to_rfc3339_opts(SecondsFormat::Millis, false),
            timestamp_edited: None,
            call_ended_timestamp: None,
            is_pinned: false,
            content: &text,
            author: self.member(said.author),
            attachments: [],
            embeds: [],
            stickers: [],
            reactions: [],
            mentions: said.mentions.iter().map(|member| self.member(*member)).collect(),
            reference,
            inline_emojis: [],
        };
        out.write_all(b"\n    ")?;
        entry.serialize(&mut serde_json::Serializer::pretty(&mut *out))?;
        self.text = text;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
        Ok(())
    }

    /// Member of the guild that represents a member of a real channel.
    fn member(&self, original: u32) -> Member<'a> {
        let members = (self.planned.guild_messages / MESSAGES_PER_MEMBER).max(12);
        // Channels have positive numbers, so negated ones do not collide with them.
        let mut rng = rng(self.seed, self.planned.guild, !u64::from(original));
        let number = rng.random_range(0..members);
        let name = self
            .chat
            .names
            .get(number as usize % self.chat.names.len().max(1))
            .map_or("member", String::as_str);
        let id = (self.planned.guild << 40) + (number << 8) + 7;
        Member {
            id: id.to_string(),
            name,
            discriminator: "0000",
            nickname: name,
            color: None,
            is_bot: false,
            roles: [],
            avatar_url: None,
        }
    }
}
