//! The real model: results and behavior under load.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures::future::{join_all, try_join_all};
use futures::poll;
use guildex_embed::{
    Embedder, LoadError, LocalConfig, LocalEmbedder, LocalSource, Pooling, Tokenizer, split,
};
use proptest::prelude::*;
use serde_json::Value;

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/test")).into()
}

fn model_dir() -> PathBuf {
    variable("GUILDEX_MODEL_DIR")
}

fn folder(path: PathBuf) -> LocalSource {
    LocalSource::Folder { path, pooling: Pooling::Mean }
}

fn config() -> LocalConfig {
    LocalConfig {
        source: folder(model_dir()),
        onnx_runtime: Some(variable("ORT_DYLIB_PATH")),
        instances: 2,
        ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
    }
}

/// Shared model of all tests in this file: loading takes a second and the weights 180 MB.
fn model() -> &'static LocalEmbedder {
    static MODEL: OnceLock<LocalEmbedder> = OnceLock::new();
    MODEL.get_or_init(|| LocalEmbedder::load(config()).unwrap())
}

async fn embed(texts: &[&str]) -> Vec<Vec<f32>> {
    model().embed(texts.iter().map(|text| text.to_string()).collect()).await.unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Texts of very different lengths, for many batches.
fn mixed(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text {n} {}", "about the weather ".repeat(n * 7 % 40))).collect()
}

#[tokio::test]
async fn vectors_equal_those_of_the_reference_implementation() {
    let reference: Value = serde_json::from_str(include_str!("../reference.json")).unwrap();
    for entry in reference.as_array().unwrap() {
        let text = entry["text"].as_str().unwrap();
        let expected: Vec<f32> =
            entry["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let vector = &embed(&[text]).await[0];
        assert!(cosine(vector, &expected) >= 0.99999, "{text:?}: cosine {}", cosine(vector, &expected));
    }
}

#[tokio::test]
async fn vectors_have_length_one() {
    for vector in embed(&["hello", "", "日本語"]).await {
        assert_eq!(vector.len(), model().dimensions());
        let norm: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

#[tokio::test]
async fn a_vector_does_not_depend_on_order_or_batch() {
    let texts = mixed(60);
    let together = model().embed(texts.clone()).await.unwrap();
    assert_eq!(together.len(), texts.len());
    for (text, vector) in texts.iter().zip(&together) {
        let alone = &embed(&[text]).await[0];
        assert!(furthest(vector, alone) < 1e-5, "{}", furthest(vector, alone));
    }
}

#[tokio::test]
async fn no_texts_give_no_vectors_and_an_empty_text_gives_one() {
    assert!(embed(&[]).await.is_empty());
    let vectors = embed(&["", "x"]).await;
    assert_ne!(vectors[0], vectors[1]);
}

#[tokio::test]
async fn a_text_longer_than_max_tokens_is_truncated_and_counted() {
    let own = LocalEmbedder::load(LocalConfig { instances: 1, max_tokens: 64, ..config() }).unwrap();
    let window = |words: usize| "word ".repeat(words);
    let vectors = own.embed(vec![window(62), window(63), window(500), "word".into()]).await.unwrap();
    assert_eq!(own.truncated(), 2);
    assert!(furthest(&vectors[0], &vectors[2]) < 1e-5, "the text was truncated at another token");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_each_get_their_own_vectors() {
    let texts = mixed(24);
    let expected = model().embed(texts.clone()).await.unwrap();
    let calls = (0..16).map(|caller| {
        let mut texts = texts.clone();
        texts.rotate_left(caller);
        tokio::spawn(async move { model().embed(texts).await.unwrap() })
    });
    for (caller, vectors) in join_all(calls).await.into_iter().enumerate() {
        let mut expected = expected.clone();
        expected.rotate_left(caller);
        for (vector, expected) in vectors.unwrap().iter().zip(&expected) {
            assert!(furthest(vector, expected) < 1e-5);
        }
    }
}

#[tokio::test]
async fn dropped_callers_do_not_affect_others() {
    let mut dropped: Vec<_> = (0..8).map(|_| model().embed(mixed(30))).collect();
    for call in &mut dropped {
        assert!(poll!(call).is_pending());
    }
    drop(dropped);
    assert_eq!(embed(&["still here"]).await.len(), 1);
}

#[tokio::test]
async fn one_embedder_serves_as_a_trait_object() {
    let shared: Arc<dyn Embedder> =
        Arc::new(LocalEmbedder::load(LocalConfig { instances: 1, ..config() }).unwrap());
    let calls = (0..3).map(|_| shared.embed(vec!["hello".into()]));
    assert_eq!(try_join_all(calls).await.unwrap().len(), 3);
    assert_eq!(shared.slug().as_str(), "all-minilm-l6-v2-fp32");
}

#[test]
fn the_tokenizer_counts_as_the_model_does() {
    let tokenizer = model().tokenizer();
    assert_eq!(tokenizer.max_tokens(), 256);
    assert_eq!(tokenizer.count("").unwrap(), 2);
    assert_eq!(tokenizer.count("How do I reset my password?").unwrap(), 9);
    assert_eq!(tokenizer.count(&"word ".repeat(1000)).unwrap(), 1002, "it cut or padded");
}

#[tokio::test]
async fn prefixes_are_added_to_texts() {
    let config = LocalConfig {
        instances: 1,
        max_tokens: 64,
        passage_prefix: "passage: ".into(),
        query_prefix: "query: ".into(),
        ..config()
    };
    let prefixed = LocalEmbedder::load(config).unwrap();
    let found = [
        prefixed.embed(vec!["tea".into()]).await.unwrap().remove(0),
        prefixed.embed_query("tea".into()).await.unwrap(),
    ];
    for (found, expected) in found.iter().zip(embed(&["passage: tea", "query: tea"]).await) {
        assert!(furthest(found, &expected) < 1e-6);
    }
    assert_eq!(
        prefixed.tokenizer().count("tea").unwrap(),
        model().tokenizer().count("passage: tea").unwrap()
    );

    let lines = vec!["word ".repeat(50); 20];
    let chunks = split(prefixed.tokenizer(), "#general", &lines).unwrap().chunks;
    let fits = |text: &str| model().tokenizer().count(&format!("passage: {text}")).unwrap() <= 64;
    assert!(chunks.len() >= 20 && chunks.iter().all(|chunk| fits(&chunk.text)));
    prefixed.embed(chunks.into_iter().map(|chunk| chunk.text).collect()).await.unwrap();
    assert_eq!(prefixed.truncated(), 0);
}

#[tokio::test]
async fn a_directory_uses_the_configured_pooling() {
    let source = LocalSource::Folder { path: model_dir(), pooling: Pooling::Cls };
    let first = LocalEmbedder::load(LocalConfig { instances: 1, source, ..config() }).unwrap();
    let (first, mean) = (first.embed(vec!["tea".into()]).await.unwrap(), embed(&["tea"]).await);
    assert!(furthest(&first[0], &mean[0]) > 1e-2, "both are pooled alike");
}

#[test]
fn an_unknown_name_is_rejected_with_suggestions() {
    let source = LocalSource::Named("all-MiniLM-L6".into());
    let error = load_error(LocalConfig { source, ..config() });
    assert!(error.contains("did you mean") && error.contains("all-minilm-l6-v2"), "{error}");
    let source = LocalSource::Named("bge-m3".into());
    let error = load_error(LocalConfig { source, ..config() });
    assert_eq!(error, "the model's vectors have 1024 dimensions, not the configured 384");
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"\[[a-z]{3,8} @ 2024-05-01 12:3[0-9]\]: [a-zA-Z .,!?']{0,120}",
        2 => r"(\PC|[\t\u{85}\u{200b}\u{0}]){0,80}",
        1 => "[一-龥ぁ-ん한-힣]{0,400}",
        1 => "[א-ת ؀-ي]{0,120}",
        1 => "(🎉|👩‍👩‍👧|👍🏽| ){0,60}",
        1 => "[a-z]{4000}",
        1 => "[a-z/._-]{4000}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tokens_add_up_over_line_breaks(lines in prop::collection::vec(line(), 1..6)) {
        let tokenizer = model().tokenizer();
        let apart: usize = lines.iter().map(|line| tokenizer.count(line).unwrap() - 2).sum();
        prop_assert_eq!(tokenizer.count(&lines.join("\n")).unwrap() - 2, apart);
    }

    #[test]
    fn chunks_fit_and_contain_every_visible_character(lines in prop::collection::vec(line(), 0..12)) {
        let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let header = "Conversation in #general:";
        let chunks = split(model().tokenizer(), header, &lines).unwrap().chunks;
        let mut found = String::new();
        for chunk in &chunks {
            prop_assert!(chunk.tokens <= 256);
            prop_assert_eq!(chunk.tokens, model().tokenizer().count(&chunk.text).unwrap());
            found.push_str(&visible(chunk.text.strip_prefix(header).unwrap()));
        }
        prop_assert_eq!(found, visible(&lines.concat()));
    }
}

proptest! {
    #[test]
    fn an_estimate_is_never_far_too_low(line in line()) {
        let estimate = Tokenizer::approximate(256).unwrap().count(&line).unwrap();
        let exact = model().tokenizer().count(&line).unwrap();
        prop_assert!(estimate * 2 >= exact, "{estimate} for {exact}");
    }

    #[test]
    fn an_estimate_is_too_high_for_chat(
        words in prop::collection::vec("(the|weather|server|release|deploy|lol|update|database|because|tomorrow|i'll|v2\\.0|\\?|https://example\\.com/a1)", 1..40),
    ) {
        let line = format!("[someone @ 2024-05-01 12:30]: {}", words.join(" "));
        let estimate = Tokenizer::approximate(256).unwrap().count(&line).unwrap();
        let exact = model().tokenizer().count(&line).unwrap();
        prop_assert!(estimate >= exact && estimate <= exact * 2 + 8, "{estimate} for {exact}");
    }
}

/// Error of loading with its sources.
fn load_error(config: LocalConfig) -> String {
    let Err(error) = LocalEmbedder::load(config) else { panic!("it was loaded") };
    let first: &dyn std::error::Error = &error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Error of loading a copy of the model's directory that was altered by `change`.
fn altered(change: impl FnOnce(&std::path::Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json"] {
        std::fs::copy(model_dir().join(name), folder.path().join(name)).unwrap();
    }
    let model = model_dir().join("model.onnx");
    std::os::unix::fs::symlink(model, folder.path().join("model.onnx")).unwrap();
    change(folder.path());
    load_error(LocalConfig { source: self::folder(folder.path().to_owned()), ..config() })
}

#[test]
fn a_missing_directory_or_file_is_named() {
    let error = load_error(LocalConfig { source: folder("/no/such/folder".into()), ..config() });
    assert!(error.contains("/no/such/folder/tokenizer.json"), "{error}");
    let error = altered(|folder| std::fs::remove_file(folder.join("model.onnx")).unwrap());
    assert!(error.contains("model.onnx of the model: No such file"), "{error}");
}

#[test]
fn invalid_model_files_are_rejected() {
    let error = altered(|folder| std::fs::write(folder.join("tokenizer.json"), "{}").unwrap());
    assert!(error.contains("tokenizer.json"), "{error}");
    let error = altered(|folder| {
        std::fs::remove_file(folder.join("model.onnx")).unwrap();
        std::fs::write(folder.join("model.onnx"), "not a model").unwrap();
    });
    assert!(error.contains("cannot load the model /"), "{error}");
}

#[test]
fn a_model_with_other_dimensions_is_rejected() {
    let error = load_error(LocalConfig { dimensions: 768, ..config() });
    assert_eq!(error, "the model's vectors have 384 dimensions, not the configured 768");
}

#[test]
fn more_tokens_than_the_model_reads_are_rejected() {
    let error = LocalEmbedder::load(LocalConfig { max_tokens: 1000, ..config() }).err();
    assert!(matches!(error, Some(LoadError::MaxTokens { max_tokens: 1000, limit: 512 })), "{error:?}");
    for max_tokens in [0, 31, usize::MAX] {
        let error = LocalEmbedder::load(LocalConfig { max_tokens, ..config() }).err();
        assert!(matches!(error, Some(LoadError::Tokenizer(_))), "{error:?}");
    }
}
