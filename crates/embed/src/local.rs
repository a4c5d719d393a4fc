//! A sentence-transformer on this machine's cores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, mem, thread};

use fastembed::{
    InitOptionsUserDefined, TextEmbedding, TextInitOptions, TokenizerFiles, UserDefinedEmbeddingModel,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use guildex_types::ModelSlug;
use tokenizers::utils::parallelism::set_parallelism;

use crate::batch::plan_tightly;
use crate::bytes;
use crate::embedder::{EmbedError, Embedder, Passage};
use crate::error::LoadError;
use crate::reader::{Measured, Reader};
use crate::runtime;
use crate::sessions::{Load, Model, Sessions};
use crate::source::{self, LocalSource, Pooling};
use crate::tokenizer::Tokenizer;

/// More sessions than this cost memory (each holds the weights) and bring little.
const MAX_DEFAULT_SESSIONS: usize = 8;

/// Which model to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// The model's name, its precision included.
    pub slug: ModelSlug,
    /// Where its files come from. The default downloads all-MiniLM-L6-v2 at first use.
    pub source: LocalSource,
    /// Where a downloaded model is kept. `HF_HOME`, where set, overrides it.
    pub cache_dir: PathBuf,
    /// ONNX Runtime's shared library, 1.24 or later. `None` takes `ORT_DYLIB_PATH`, else the system's.
    pub onnx_runtime: Option<PathBuf>,
    /// The length of the model's vectors.
    pub dimensions: usize,
    /// The tokens that the model reads of a text, prefix and special ones included.
    pub window: usize,
    /// What the model wants before a text that is stored, as e5 wants `"passage: "`. Usually empty.
    pub passage_prefix: String,
    /// What the model wants before a question, as e5 wants `"query: "`. Usually empty.
    pub query_prefix: String,
    /// The most tokens in a batch, padding included.
    pub max_batch_tokens: usize,
    /// Copies of the model, each of one thread; at least one.
    pub sessions: usize,
}

impl LocalConfig {
    /// all-MiniLM-L6-v2 under the name `slug`: 384 dimensions, a window of 256 tokens, batches of at most 512
    /// padded tokens, a session for each core up to eight.
    pub fn new(slug: ModelSlug) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            slug,
            source: LocalSource::default(),
            cache_dir: fastembed::get_cache_dir().into(),
            onnx_runtime: None,
            dimensions: 384,
            window: 256,
            passage_prefix: String::new(),
            query_prefix: String::new(),
            max_batch_tokens: 512,
            sessions: cores.min(MAX_DEFAULT_SESSIONS),
        }
    }
}

/// A model loaded into this process, in one or more sessions.
pub struct LocalEmbedder {
    slug: ModelSlug,
    dimensions: usize,
    max_batch_tokens: usize,
    reader: Reader,
    sessions: Sessions,
}

impl LocalEmbedder {
    /// Loads ONNX Runtime (once a process) and the model's sessions, and tries the model on one text. Blocks for
    /// about a second, or for a download.
    ///
    /// # Errors
    /// If the library, a file of the model or the configuration is wrong.
    pub fn load(config: LocalConfig) -> Result<Self, LoadError> {
        Tokenizer::check_window(config.window)?;
        runtime::load(config.onnx_runtime.as_deref())?;
        // Batches are side by side already: threads that share one's texts would only be in their way.
        set_parallelism(false);
        if let Some(warning) =
            bytes::warning(&config.slug, &config.source, bytes::processor_multiplies_bytes())
        {
            tracing::warn!("{warning}");
        }

        let mut first = open(&config)?;
        let tokenizer = tokenizer_of(&first, config.window)?;
        let reader = Reader::new(tokenizer, config.passage_prefix.clone(), config.query_prefix.clone())?;
        try_out(&mut first, config.dimensions)?;

        let LocalConfig { slug, dimensions, max_batch_tokens, sessions, .. } = config.clone();
        let load: Load = Arc::new(move || open(&config).map(into_model));
        let mut models = vec![into_model(first)];
        for _ in 1..sessions {
            models.push(load()?);
        }
        let sessions = Sessions::start(models, &load).map_err(LoadError::Thread)?;
        Ok(Self { slug, dimensions, max_batch_tokens, reader, sessions })
    }

    async fn run(&self, measured: Measured, limit: Duration) -> Result<Vec<Vec<f32>>, EmbedError> {
        let Measured { mut texts, tokens } = measured;
        let batches = plan_tightly(&tokens, self.max_batch_tokens);
        tracing::debug!(
            texts = texts.len(),
            tokens = tokens.iter().sum::<usize>(),
            batches = batches.len(),
            "embedding"
        );
        let work = batches.into_iter().map(|batch| {
            let texts = batch.iter().filter_map(|&index| texts.get_mut(index).map(mem::take)).collect();
            async move {
                let vectors = self.sessions.run(texts, limit).await?;
                Ok::<_, EmbedError>(batch.into_iter().zip(vectors).collect::<Vec<_>>())
            }
        });
        // A call offers no more batches at a time than the sessions can take, so that a large call does not
        // keep a small one waiting for all of it.
        let done = stream::iter(work).buffer_unordered(self.sessions.appetite());
        let mut vectors = done.try_concat().await?;
        vectors.sort_unstable_by_key(|&(index, _)| index);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }
}

impl Embedder for LocalEmbedder {
    fn slug(&self) -> &ModelSlug {
        &self.slug
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.reader.tokenizer()
    }

    /// Wants a tokio runtime.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move { self.run(self.reader.passages(texts).await?, Duration::MAX).await }.boxed()
    }

    fn embed_within(
        &self,
        passages: Vec<Passage>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move { self.run(self.reader.counted(passages).await?, limit).await }.boxed()
    }

    fn longest_call(&self) -> Option<Duration> {
        self.sessions.longest_call()
    }

    /// Wants a tokio runtime.
    fn embed_query(&self, question: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move {
            let mut vectors = self.run(self.reader.question(question).await?, Duration::MAX).await?;
            Ok(vectors.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.reader.truncated()
    }
}

/// Opens one session of one thread: on few cores, sessions side by side beat threads in one session.
fn open(config: &LocalConfig) -> Result<TextEmbedding, LoadError> {
    open_with(config, Some(1))
}

/// The model in fastembed's own hands, to compare with: one session, of all cores or so many threads.
///
/// # Errors
/// If the library, a file of the model or the configuration is wrong.
pub fn fastembed_of(config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    runtime::load(config.onnx_runtime.as_deref())?;
    open_with(config, threads)
}

fn open_with(config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    match &config.source {
        LocalSource::Folder { path, pooling } => open_folder(path, *pooling, config.window, threads),
        LocalSource::Named(name) => download(name, config, threads),
    }
}

fn open_folder(
    folder: &Path,
    pooling: Pooling,
    window: usize,
    threads: Option<usize>,
) -> Result<TextEmbedding, LoadError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|source| LoadError::File { path, source })
    };
    let tokenizer_files = TokenizerFiles {
        tokenizer_file: read("tokenizer.json")?,
        config_file: read("config.json")?,
        special_tokens_map_file: read("special_tokens_map.json")?,
        tokenizer_config_file: read("tokenizer_config.json")?,
    };
    let model =
        UserDefinedEmbeddingModel::new(read("model.onnx")?, tokenizer_files).with_pooling(pooling.into());
    let mut options = InitOptionsUserDefined::new().with_max_length(window);
    options.intra_threads = threads;
    TextEmbedding::try_new_from_user_defined(model, options)
        .map_err(|source| LoadError::Model { origin: folder.display().to_string(), source: Box::new(source) })
}

/// fastembed pools as the model wants it.
fn download(name: &str, config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    let model = source::resolve(name)?;
    if model.dim != config.dimensions {
        return Err(LoadError::Dimensions { expected: config.dimensions, found: model.dim });
    }
    let mut options = TextInitOptions::new(model.model)
        .with_cache_dir(config.cache_dir.clone())
        .with_max_length(config.window)
        .with_show_download_progress(false);
    options.intra_threads = threads;
    TextEmbedding::try_new(options)
        .map_err(|source| LoadError::Model { origin: name.to_owned(), source: Box::new(source) })
}

/// fastembed's own tokenizer, so that both count alike.
fn tokenizer_of(model: &TextEmbedding, window: usize) -> Result<Tokenizer, LoadError> {
    let limit = model.tokenizer.get_truncation().map_or(window, |truncation| truncation.max_length);
    if limit < window {
        return Err(LoadError::Window { window, limit });
    }
    Ok(Tokenizer::new(model.tokenizer.clone(), window)?)
}

fn try_out(model: &mut TextEmbedding, dimensions: usize) -> Result<(), LoadError> {
    let vectors = model.embed(["a trial"], None).map_err(|reason| LoadError::Trial(reason.to_string()))?;
    let found = vectors.first().map_or(0, Vec::len);
    if found == dimensions { Ok(()) } else { Err(LoadError::Dimensions { expected: dimensions, found }) }
}

fn into_model(mut model: TextEmbedding) -> Model {
    Box::new(move |texts| {
        // One call, one batch: fastembed would hold every batch's output until the end.
        let vectors =
            model.embed(texts, Some(texts.len())).map_err(|reason| EmbedError::Model(reason.to_string()))?;
        if vectors.len() == texts.len() {
            Ok(vectors)
        } else {
            Err(EmbedError::Model(format!("{} vectors for {} texts", vectors.len(), texts.len())))
        }
    })
}
