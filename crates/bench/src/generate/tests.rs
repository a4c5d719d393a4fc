use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use guildex_types::Message;
use tempfile::TempDir;

use super::*;

fn make(messages: u64, guilds: u32, seed: u64) -> (TempDir, Generated) {
    let folder = TempDir::new().unwrap();
    let options =
        Generate { messages, guilds, exports: or_samples(Vec::new()), out: folder.path().to_owned(), seed };
    let made = run(&options, |_| {}).unwrap();
    (folder, made)
}

/// Reads the channels of exports, all of whose messages must be valid.
fn read(paths: &[PathBuf]) -> Vec<Vec<Message>> {
    let (files, errors) = guildex_discord_export::find_exports(paths);
    assert!(errors.is_empty());
    let read = |path: &PathBuf| {
        let mut channel = Vec::new();
        let outcome = guildex_discord_export::read_export(path, 1_000, &mut |page| {
            channel.extend(page.messages);
            ControlFlow::Continue(())
        });
        assert_eq!(outcome.unwrap().rejected, 0);
        channel
    };
    files.iter().map(read).collect()
}

fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (files, _) = guildex_discord_export::find_exports(&[folder.to_owned()]);
    files
        .into_iter()
        .map(|file| (file.strip_prefix(folder).unwrap().to_owned(), fs::read(&file).unwrap()))
        .collect()
}

#[test]
fn exports_are_valid_and_ids_match_times() {
    let (folder, made) = make(3_000, 4, 7);
    let channels = read(&[folder.path().to_owned()]);
    assert_eq!(channels.iter().map(Vec::len).sum::<usize>(), 3_000);
    assert_eq!((made.messages, made.channels), (3_000, channels.len() as u64));
    assert_eq!(channels.iter().flatten().map(|m| m.guild_id.get()).collect::<HashSet<_>>().len(), 4);
    let mut seen = HashSet::new();
    for channel in &channels {
        assert!(channel.is_sorted_by(|a, b| a.id < b.id && a.sent_at < b.sent_at));
        for message in channel {
            assert!(seen.insert((message.guild_id.get(), message.id.get())), "duplicate id in a guild");
            assert_eq!((message.id.get() >> 22) + 1_420_070_400_000, message.sent_at.timestamp_millis());
        }
    }
}

#[test]
fn files_depend_only_on_the_seed() {
    let (one, _) = make(2_000, 3, 1);
    let (same, _) = make(2_000, 3, 1);
    let (other, _) = make(2_000, 3, 2);
    assert_eq!(bytes(one.path()), bytes(same.path()));
    assert_ne!(bytes(one.path()), bytes(other.path()));
}

/// Words per message, mentions and replies per hundred messages, and median minutes between messages.
fn shape(channels: &[Vec<Message>]) -> [f64; 4] {
    let all: Vec<&Message> =
        channels.iter().flatten().filter(|m| m.excluded_reason(true).is_none()).collect();
    let per = |count: usize| count as f64 / all.len() as f64;
    let mut gaps: Vec<i64> = channels
        .iter()
        .flat_map(|c| c.windows(2))
        .map(|pair| (pair[1].sent_at - pair[0].sent_at).num_seconds())
        .collect();
    gaps.sort_unstable();
    [
        per(all.iter().map(|m| m.text.words()).sum()),
        100.0 * per(all.iter().filter(|m| !m.links.mentions.is_empty()).count()),
        100.0 * per(all.iter().filter(|m| m.links.reply_to.is_some()).count()),
        gaps[gaps.len() / 2] as f64 / 60.0,
    ]
}

#[test]
fn output_resembles_the_source_and_copies_little_of_it() {
    let source = read(&or_samples(Vec::new()));
    let (folder, _) = make(20_000, 2, 3);
    let made = read(&[folder.path().to_owned()]);
    let (learned, shaped) = (shape(&source), shape(&made));
    for (learned, shaped) in learned.into_iter().zip(shaped) {
        assert!((shaped - learned).abs() <= 0.35 * learned + 1.0, "{learned} became {shaped}");
    }
    let texts: Vec<&str> = made.iter().flatten().map(|m| m.text.as_str()).collect();
    let known: HashSet<&str> = source.iter().flatten().map(|m| m.text.as_str()).collect();
    let copies = texts.iter().filter(|text| known.contains(*text)).count();
    assert!(copies * 2 < texts.len(), "{copies} of {} are copies", texts.len());
}
