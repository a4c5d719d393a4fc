//! Speed and memory of the ways to call the model, on synthetic sessions of 10 to 250 tokens.
//!
//! Texts a second are of this machine as it is; texts a core-second (processor time) also hold on a busy one.
//!
//! `cargo bench -p guildex-embed`, with `ORT_DYLIB_PATH` and `GUILDEX_MODEL_DIR` set; give the names of
//! variants after `--` to run those alone. Each variant runs in a process of its own, so that its memory is
//! its own: one round to warm up, then the median of three.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use fastembed::{InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use guildex_embed::{Embedder, LocalConfig, LocalEmbedder, plan};

const TEXTS: usize = 256;
const ROUNDS: usize = 3;

/// Names and what they run.
const VARIANTS: [(&str, Variant); 8] = [
    ("guildex-2x1-512", Variant::Guildex { sessions: 2, budget: 512 }),
    ("guildex-2x1-1024", Variant::Guildex { sessions: 2, budget: 1024 }),
    ("guildex-2x1-2048", Variant::Guildex { sessions: 2, budget: 2048 }),
    ("guildex-1x1-1024", Variant::Guildex { sessions: 1, budget: 1024 }),
    ("planned-1x2-512", Variant::Planned { budget: 512 }),
    ("planned-1x2-1024", Variant::Planned { budget: 1024 }),
    ("fastembed-32", Variant::Fastembed { batch: 32 }),
    ("fastembed-default", Variant::Fastembed { batch: 256 }),
];

#[derive(Clone, Copy)]
enum Variant {
    /// The crate as it is used: sessions of one thread, batches under a budget of padded tokens.
    Guildex { sessions: usize, budget: usize },
    /// The same batches through one session of two threads.
    Planned { budget: usize },
    /// fastembed left to itself, with two threads.
    Fastembed { batch: usize },
}

fn main() {
    let asked: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Ok(name) = env::var("GUILDEX_BENCH_VARIANT") {
        let (_, variant) = VARIANTS.into_iter().find(|(known, _)| *known == name).expect("a known variant");
        return measure(&name, variant);
    }
    println!(
        "{:20} {:>8} {:>14} {:>9} {:>12}",
        "variant", "texts/s", "texts/core-s", "peak MiB", "at rest MiB"
    );
    for (name, _) in VARIANTS {
        if asked.is_empty() || asked.iter().any(|known| known == name) {
            let mut child = Command::new(env::current_exe().unwrap());
            assert!(child.env("GUILDEX_BENCH_VARIANT", name).status().unwrap().success(), "{name} failed");
        }
    }
}

fn measure(name: &str, variant: Variant) {
    let texts = texts();
    let mut run = prepare(variant);
    let at_rest = memory("VmRSS:");
    assert_eq!(run(&texts), TEXTS);
    let spent = processor_time();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(run(&texts), TEXTS);
            begun.elapsed()
        })
        .collect();
    let a_core_second = (TEXTS * ROUNDS) as f64 / (processor_time() - spent);
    times.sort_unstable();
    let a_second = TEXTS as f64 / times[ROUNDS / 2].as_secs_f64();
    println!("{name:20} {a_second:8.0} {a_core_second:14.0} {:9} {at_rest:12}", memory("VmHWM:"));
}

/// How many vectors a round gave.
type Run = Box<dyn FnMut(&[String]) -> usize>;

fn prepare(variant: Variant) -> Run {
    match variant {
        Variant::Guildex { sessions, budget } => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let embedder = embedder(sessions, budget);
            Box::new(move |texts| runtime.block_on(embedder.embed(texts.to_vec())).unwrap().len())
        }
        Variant::Planned { budget } => {
            let tokenizer = embedder(1, budget).tokenizer().clone();
            let mut model = fastembed_model();
            Box::new(move |texts| {
                let lengths: Vec<usize> = texts.iter().map(|text| tokenizer.count(text).unwrap()).collect();
                let batches = plan(&lengths, budget).into_iter().map(|batch| {
                    let batch: Vec<&str> = batch.iter().map(|&index| texts[index].as_str()).collect();
                    model.embed(batch, None).unwrap().len()
                });
                batches.sum()
            })
        }
        Variant::Fastembed { batch } => {
            drop(embedder(1, 1));
            let mut model = fastembed_model();
            Box::new(move |texts| model.embed(texts, Some(batch)).unwrap().len())
        }
    }
}

fn embedder(sessions: usize, budget: usize) -> LocalEmbedder {
    let slug = "bench".parse().unwrap();
    LocalEmbedder::load(LocalConfig {
        source: Some(folder()).into(),
        sessions,
        max_batch_tokens: budget,
        ..LocalConfig::new(slug)
    })
    .unwrap()
}

fn folder() -> PathBuf {
    env::var_os("GUILDEX_MODEL_DIR").expect("GUILDEX_MODEL_DIR is not set").into()
}

fn fastembed_model() -> TextEmbedding {
    let read = |name| fs::read(folder().join(name)).unwrap();
    let files = TokenizerFiles {
        tokenizer_file: read("tokenizer.json"),
        config_file: read("config.json"),
        special_tokens_map_file: read("special_tokens_map.json"),
        tokenizer_config_file: read("tokenizer_config.json"),
    };
    let model = UserDefinedEmbeddingModel::new(read("model.onnx"), files).with_pooling(Pooling::Mean);
    let options = InitOptionsUserDefined::new().with_max_length(256).with_intra_threads(2);
    TextEmbedding::try_new_from_user_defined(model, options).unwrap()
}

/// Sessions as chat makes them: many short, few long; always the same.
fn texts() -> Vec<String> {
    const WORDS: [&str; 16] = [
        "the",
        "update",
        "broke",
        "my",
        "kernel",
        "again",
        "try",
        "booting",
        "with",
        "nomodeset",
        "then",
        "reinstall",
        "drivers",
        "and",
        "reboot",
        "thanks",
    ];
    let mut state = 7_u64;
    let mut below = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut session = |_| {
        // The square makes short sessions common: 1 to 12 messages, 4 on average.
        let messages = 1 + below(12) * below(12) / 12;
        let lines = (0..messages).map(|n| {
            let words: Vec<&str> = (0..2 + below(9)).map(|_| WORDS[below(WORDS.len())]).collect();
            format!("[ann @ 2024-05-01 12:{:02}]: {}", n + 10, words.join(" "))
        });
        format!("Conversation in #help:\n{}", lines.collect::<Vec<_>>().join("\n"))
    };
    (0..TEXTS).map(&mut session).collect()
}

/// A figure of this process in MiB.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// Seconds of processor time of all threads so far; Linux counts in hundredths.
fn processor_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in brackets, may hold blanks; user and system time are the 12th and 13th fields behind it.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}
