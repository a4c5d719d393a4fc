//! A sentence-transformer on this machine's cores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, mem, thread};

use fastembed::{
    EmbeddingModel, InitOptionsUserDefined, Pooling, TextEmbedding, TextInitOptions, TokenizerFiles,
    UserDefinedEmbeddingModel,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use guildex_types::ModelSlug;

use crate::batch::plan;
use crate::embedder::{EmbedError, Embedder};
use crate::runtime;
use crate::sessions::{Load, Model, Sessions};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// More sessions than this cost memory (each holds the weights) and bring little.
const MAX_DEFAULT_SESSIONS: usize = 8;

/// Which model to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// The model's name, its precision included.
    pub slug: ModelSlug,
    /// The folder with `model.onnx`, `tokenizer.json`, `config.json`, `special_tokens_map.json` and
    /// `tokenizer_config.json` of a model with mean pooling. `None` downloads all-MiniLM-L6-v2 at first use.
    pub model_dir: Option<PathBuf>,
    /// Where a downloaded model is kept. `HF_HOME`, where set, overrides it.
    pub cache_dir: PathBuf,
    /// ONNX Runtime's shared library, 1.24 or later. `None` takes `ORT_DYLIB_PATH`, else the system's.
    pub onnx_runtime: Option<PathBuf>,
    /// The length of the model's vectors.
    pub dimensions: usize,
    /// The tokens that the model reads of a text, the special ones included.
    pub window: usize,
    /// The most tokens in a batch, padding included.
    pub max_batch_tokens: usize,
    /// Copies of the model, each of one thread; at least one.
    pub sessions: usize,
}

impl LocalConfig {
    /// all-MiniLM-L6-v2 under the name `slug`: 384 dimensions, a window of 256 tokens, batches of at most 1,024
    /// padded tokens, a session for each core up to eight.
    pub fn new(slug: ModelSlug) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            slug,
            model_dir: None,
            cache_dir: fastembed::get_cache_dir().into(),
            onnx_runtime: None,
            dimensions: 384,
            window: 256,
            max_batch_tokens: 1024,
            sessions: cores.min(MAX_DEFAULT_SESSIONS),
        }
    }
}

/// Why a model could not be loaded: the message names what is wrong, the sources tell the reasons.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// ONNX Runtime is missing, too old or something else.
    #[error(
        "cannot load ONNX Runtime from {path}: point ORT_DYLIB_PATH to libonnxruntime 1.{minor} or later, or run \
         scripts/setup",
        path = path.display(), minor = ort::MINOR_VERSION
    )]
    Runtime {
        /// The library tried.
        path: PathBuf,
        /// What was wrong with it.
        source: Box<ort::LoadDynamicError>,
    },
    /// A file of the model's folder cannot be read.
    #[error("cannot read {path} of the model", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files were read and are not a model.
    #[error("cannot load the model {origin}")]
    Model {
        /// The folder, or the model to download.
        origin: String,
        /// fastembed's reason.
        source: Box<fastembed::Error>,
    },
    /// The model reads fewer tokens than configured.
    #[error("the model reads at most {limit} tokens, fewer than the configured window of {window}")]
    Window {
        /// As configured.
        window: usize,
        /// What `tokenizer_config.json` allows.
        limit: usize,
    },
    /// The configured window cannot be, or the tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model does not embed a trial text.
    #[error("the model fails on a trial text: {0}")]
    Trial(String),
    /// The model's vectors have another length than configured.
    #[error("the model's vectors have {found} dimensions, not the configured {expected}")]
    Dimensions {
        /// As configured.
        expected: usize,
        /// As the model gives.
        found: usize,
    },
    /// No thread could be started.
    #[error("cannot start a thread for the model")]
    Thread(#[source] io::Error),
}

/// A model loaded into this process, in one or more sessions.
pub struct LocalEmbedder {
    slug: ModelSlug,
    dimensions: usize,
    max_batch_tokens: usize,
    tokenizer: Tokenizer,
    sessions: Sessions,
    truncated: AtomicU64,
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

        let mut first = open(&config)?;
        let tokenizer = tokenizer_of(&first, config.window)?;
        try_out(&mut first, config.dimensions)?;

        let LocalConfig { slug, dimensions, max_batch_tokens, sessions, .. } = config.clone();
        let load: Load = Arc::new(move || open(&config).map(into_model));
        let mut models = vec![into_model(first)];
        for _ in 1..sessions {
            models.push(load()?);
        }
        let sessions = Sessions::start(models, &load).map_err(LoadError::Thread)?;
        Ok(Self { slug, dimensions, max_batch_tokens, tokenizer, sessions, truncated: AtomicU64::new(0) })
    }

    /// The texts and how many tokens the model reads of each. Counts on a thread that may block.
    async fn measure(&self, texts: Vec<String>) -> Result<(Vec<String>, Vec<usize>), EmbedError> {
        let tokenizer = self.tokenizer.clone();
        let counting = tokio::task::spawn_blocking(move || {
            let counts = tokenizer.counts(texts.iter().map(String::as_str).collect())?;
            Ok::<_, TokenizerError>((texts, counts))
        });
        let (texts, mut counts) = counting.await.map_err(|_| EmbedError::Panicked)??;

        let window = self.tokenizer.window();
        let mut cut = 0;
        for tokens in counts.iter_mut().filter(|tokens| **tokens > window) {
            *tokens = window;
            cut += 1;
        }
        if cut > 0 {
            self.truncated.fetch_add(cut, Ordering::Relaxed);
            tracing::warn!(texts = cut, window, "texts beyond the model's window are cut");
        }
        Ok((texts, counts))
    }

    async fn embed_all(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let (mut texts, counts) = self.measure(texts).await?;
        let batches = plan(&counts, self.max_batch_tokens);
        tracing::debug!(
            texts = texts.len(),
            tokens = counts.iter().sum::<usize>(),
            batches = batches.len(),
            "embedding"
        );
        let work = batches.into_iter().map(|batch| {
            let texts = batch.iter().filter_map(|&index| texts.get_mut(index).map(mem::take)).collect();
            async move {
                let vectors = self.sessions.run(texts).await?;
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
        &self.tokenizer
    }

    /// Wants a tokio runtime.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        self.embed_all(texts).boxed()
    }

    fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }
}

/// Opens one session of one thread: on few cores, sessions side by side beat threads in one session.
fn open(config: &LocalConfig) -> Result<TextEmbedding, LoadError> {
    match &config.model_dir {
        Some(folder) => open_folder(folder, config.window),
        None => download(&config.cache_dir, config.window),
    }
}

fn open_folder(folder: &Path, window: usize) -> Result<TextEmbedding, LoadError> {
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
        UserDefinedEmbeddingModel::new(read("model.onnx")?, tokenizer_files).with_pooling(Pooling::Mean);
    let options = InitOptionsUserDefined::new().with_max_length(window).with_intra_threads(1);
    TextEmbedding::try_new_from_user_defined(model, options)
        .map_err(|source| LoadError::Model { origin: folder.display().to_string(), source: Box::new(source) })
}

fn download(cache_dir: &Path, window: usize) -> Result<TextEmbedding, LoadError> {
    let options = TextInitOptions::new(EmbeddingModel::AllMiniLML6V2)
        .with_cache_dir(cache_dir.to_owned())
        .with_max_length(window)
        .with_intra_threads(1)
        .with_show_download_progress(false);
    TextEmbedding::try_new(options).map_err(|source| LoadError::Model {
        origin: "all-MiniLM-L6-v2".to_owned(),
        source: Box::new(source),
    })
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
