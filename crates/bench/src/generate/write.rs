//! Writing a channel, passage by passage, as the exporter does.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::json;

use super::Generate;
use super::learn::{Chat, Said};
use super::plan::Planned;
use super::random::Random;

/// How many messages in a row come from one place of a real channel.
const PASSAGE: (usize, usize) = (40, 400);
/// Milliseconds after which a longer pause is as good as this one: in a large channel those of a quiet one would add up
/// to centuries.
const LONGEST_PAUSE: u64 = 6 * 3_600_000;
/// How far back replies are remembered.
const REMEMBERED: usize = 1_000;
/// Messages to a member of a guild.
const TO_A_MEMBER: u64 = 60;
/// 2018-01-01, when the first channels may begin, and the time within which they all begin, in seconds.
const BEGIN: (i64, usize) = (1_514_764_800, 5 * 365 * 86_400);
/// 2015-01-01, from which snowflakes count, in Unix milliseconds.
const DISCORD: i64 = 1_420_070_400_000;

/// Writes the export of a channel; how large the file is.
pub(super) fn channel(chat: &Chat, planned: &Planned, options: &Generate) -> io::Result<u64> {
    let folder = options.out.join(format!("guild-{:04}", planned.guild));
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("channel-{:03}.json.gz", planned.number));
    // The serializer writes a few bytes at a time, and the compressor is slow to be called.
    let file = GzEncoder::new(File::create(&path)?, Compression::fast());
    let mut file = BufWriter::with_capacity(1 << 18, file);
    Channel::new(chat, planned, options.seed).write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
    Ok(path.metadata()?.len())
}

/// A channel in the making.
struct Channel<'a> {
    chat: &'a Chat,
    planned: &'a Planned,
    seed: u64,
    random: Random,
    now: DateTime<Utc>,
    /// The ids of the latest messages, the newest last.
    latest: VecDeque<u64>,
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
        let mut random = planned.random(seed);
        let begin = BEGIN.0 + random.below(BEGIN.1) as i64;
        let now = DateTime::from_timestamp(begin, 0).unwrap_or_default();
        let latest = VecDeque::with_capacity(REMEMBERED);
        Self { chat, planned, seed, random, now, latest, text: String::new() }
    }

    /// Ids of guilds and channels: as old as Discord, and the same with every seed.
    fn id(&self, of_channel: bool) -> u64 {
        let number = if of_channel { self.planned.number } else { 0 };
        (self.planned.guild << 32) + (number << 22) + 1
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        let (guild, channel) = (self.id(false).to_string(), self.id(true).to_string());
        let Planned { guild: number, number: of_guild, messages, .. } = self.planned;
        let head = json!({
            "guild": {"id": guild, "name": format!("Guild {number}"), "iconUrl": null},
            "channel": {"id": channel, "type": "GuildTextChat", "categoryId": null, "category": null,
                        "name": format!("channel-{of_guild}"), "topic": null},
            "dateRange": {"after": null, "before": null},
            "exportedAt": "2025-01-01T00:00:00+00:00",
        });
        let head = serde_json::to_string_pretty(&head)?;
        out.write_all(head.trim_end_matches("\n}").as_bytes())?;
        out.write_all(b",\n  \"messages\": [")?;
        let mut left = *messages;
        while left > 0 {
            let random = &mut self.random;
            let Some(source) = random.of_these(&self.chat.channels) else { break };
            let from = random.below(source.len());
            let length = PASSAGE.0 + random.below(PASSAGE.1 - PASSAGE.0);
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
        // Within the second that the source may have rounded to, and never at the same time: ids grow with it.
        let gap = said.gap.min(LONGEST_PAUSE).saturating_sub(500) + self.random.below(1_000) as u64;
        self.now += TimeDelta::milliseconds(i64::try_from(gap).unwrap_or(0).max(1));
        let low = self.random.next() & ((1 << 22) - 1);
        let id = ((self.now.timestamp_millis() - DISCORD).unsigned_abs() << 22) | low;
        // Of what stands in this passage; what is older was said elsewhere.
        let answered = said.reply.map(|back| back as usize).filter(|back| *back <= place);
        let answered =
            answered.and_then(|back| self.latest.len().checked_sub(back)).and_then(|at| self.latest.get(at));
        let reference = answered.map(|id| Reference {
            message_id: id.to_string(),
            channel_id: self.id(true).to_string(),
            guild_id: self.id(false).to_string(),
        });
        let mut text = std::mem::take(&mut self.text);
        self.chat.splice(said, &mut self.random, &mut text);
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
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(id);
        Ok(())
    }

    /// The guild's member who plays the part of a real channel's member.
    fn member(&self, part: u32) -> Member<'a> {
        let members = (self.planned.of_guild / TO_A_MEMBER).max(12);
        let number = Random::of(self.seed, &[self.planned.guild, u64::from(part)]).next() % members;
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
