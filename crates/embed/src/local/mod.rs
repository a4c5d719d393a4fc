//! Runs a sentence-transformer model on the CPU.

mod cpu_features;
mod model_pool;
pub(crate) mod onnx_runtime;
pub(crate) mod source;

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

use self::model_pool::{Load, Model, ModelPool};
use self::source::{LocalSource, Pooling};
use crate::batching::plan_min_padding;
use crate::embedder::{EmbedError, Embedder, Passage};
use crate::encoder_input::{CountedTexts, InputPreparer};
use crate::error::LoadError;
use crate::tokenizer::Tokenizer;

/// More instances need memory (each holds the weights) and add little throughput.
const MAX_DEFAULT_INSTANCES: usize = 8;

/// Configuration of a local model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// Name of the model, including its precision.
    pub slug: ModelSlug,
    /// Origin of the files. The default downloads all-MiniLM-L6-v2 on first use.
    pub source: LocalSource,
    /// Directory for downloaded models. `HF_HOME` overrides it.
    pub cache_dir: PathBuf,
    /// Shared library of ONNX Runtime 1.24 or later. Default: `ORT_DYLIB_PATH`, else the system's library.
    pub onnx_runtime: Option<PathBuf>,
    /// Length of the model's vectors.
    pub dimensions: usize,
    /// Tokens that the model reads of a text, including prefix and special tokens.
    pub max_tokens: usize,
    /// Prefix of stored texts, such as `"passage: "` for e5 models. Usually empty.
    pub passage_prefix: String,
    /// Prefix of queries, such as `"query: "` for e5 models. Usually empty.
    pub query_prefix: String,
    /// Maximum tokens of a batch, including padding.
    pub max_batch_tokens: usize,
    /// Instances of the model with one thread each; at least one.
    pub instances: usize,
}

impl LocalConfig {
    /// Creates a configuration of all-MiniLM-L6-v2 with the name `slug`: 384 dimensions, 256 tokens of a text, batches of
    /// at most 512 padded tokens, and one instance per core up to eight.
    pub fn new(slug: ModelSlug) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            slug,
            source: LocalSource::default(),
            cache_dir: fastembed::get_cache_dir().into(),
            onnx_runtime: None,
            dimensions: 384,
            max_tokens: 256,
            passage_prefix: String::new(),
            query_prefix: String::new(),
            max_batch_tokens: 512,
            instances: cores.min(MAX_DEFAULT_INSTANCES),
        }
    }
}

/// Model loaded into this process as a pool of instances.
pub struct LocalEmbedder {
    slug: ModelSlug,
    dimensions: usize,
    max_batch_tokens: usize,
    input: InputPreparer,
    pool: ModelPool,
}

impl LocalEmbedder {
    /// Loads ONNX Runtime (once per process) and the model's instances, and embeds a test text. Blocks for about a second,
    /// or for a download.
    ///
    /// # Errors
    /// If the library, a file of the model or the configuration is invalid.
    pub fn load(config: LocalConfig) -> Result<Self, LoadError> {
        Tokenizer::check_max_tokens(config.max_tokens)?;
        onnx_runtime::load(config.onnx_runtime.as_deref())?;
        // Batches already run in parallel; parallel tokenization would only compete with them.
        set_parallelism(false);
        if let Some(warning) =
            cpu_features::warning(&config.slug, &config.source, cpu_features::has_int8_dot_product())
        {
            tracing::warn!("{warning}");
        }

        let mut first = open(&config)?;
        let tokenizer = model_tokenizer(&first, config.max_tokens)?;
        let input =
            InputPreparer::new(tokenizer, config.passage_prefix.clone(), config.query_prefix.clone())?;
        check_dimensions(&mut first, config.dimensions)?;

        let LocalConfig { slug, dimensions, max_batch_tokens, instances, .. } = config.clone();
        let load: Load = Arc::new(move || open(&config).map(into_model));
        let mut models = vec![into_model(first)];
        for _ in 1..instances {
            models.push(load()?);
        }
        let pool = ModelPool::start(models, &load).map_err(LoadError::Thread)?;
        Ok(Self { slug, dimensions, max_batch_tokens, input, pool })
    }

    async fn run(&self, input: CountedTexts, limit: Duration) -> Result<Vec<Vec<f32>>, EmbedError> {
        let CountedTexts { mut texts, tokens } = input;
        let batches = plan_min_padding(&tokens, self.max_batch_tokens);
        tracing::debug!(
            texts = texts.len(),
            tokens = tokens.iter().sum::<usize>(),
            batches = batches.len(),
            "embedding"
        );
        let work = batches.into_iter().map(|batch| {
            let texts = batch.iter().filter_map(|&index| texts.get_mut(index).map(mem::take)).collect();
            async move {
                let vectors = self.pool.run(texts, limit).await?;
                Ok::<_, EmbedError>(batch.into_iter().zip(vectors).collect::<Vec<_>>())
            }
        });
        // A call submits only as many batches as the pool can take, so that a large call does not block a small one until
        // its end.
        let done = stream::iter(work).buffer_unordered(self.pool.max_pending());
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
        self.input.tokenizer()
    }

    /// Requires a tokio runtime.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move { self.run(self.input.passages(texts).await?, Duration::MAX).await }.boxed()
    }

    fn embed_within(
        &self,
        passages: Vec<Passage>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move { self.run(self.input.counted(passages).await?, limit).await }.boxed()
    }

    fn longest_call(&self) -> Option<Duration> {
        self.pool.longest_call()
    }

    /// Requires a tokio runtime.
    fn embed_query(&self, query: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move {
            let mut vectors = self.run(self.input.query(query).await?, Duration::MAX).await?;
            Ok(vectors.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.input.truncated()
    }
}

/// Opens an instance with one thread. On few cores, parallel instances are faster than threads of one instance.
fn open(config: &LocalConfig) -> Result<TextEmbedding, LoadError> {
    open_with(config, Some(1))
}

/// Opens the model with fastembed alone, for comparisons: one instance that uses all cores or `threads` threads.
///
/// # Errors
/// If the library, a file of the model or the configuration is invalid.
pub fn fastembed_model(config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    onnx_runtime::load(config.onnx_runtime.as_deref())?;
    open_with(config, threads)
}

fn open_with(config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    match &config.source {
        LocalSource::Folder { path, pooling } => open_folder(path, *pooling, config.max_tokens, threads),
        LocalSource::Named(name) => download(name, config, threads),
    }
}

fn open_folder(
    folder: &Path,
    pooling: Pooling,
    max_tokens: usize,
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
    let mut options = InitOptionsUserDefined::new().with_max_length(max_tokens);
    options.intra_threads = threads;
    TextEmbedding::try_new_from_user_defined(model, options)
        .map_err(|source| LoadError::Model { origin: folder.display().to_string(), source: Box::new(source) })
}

/// Downloads a model. fastembed chooses the pooling.
fn download(name: &str, config: &LocalConfig, threads: Option<usize>) -> Result<TextEmbedding, LoadError> {
    let model = source::resolve(name)?;
    if model.dim != config.dimensions {
        return Err(LoadError::Dimensions { expected: config.dimensions, found: model.dim });
    }
    let mut options = TextInitOptions::new(model.model)
        .with_cache_dir(config.cache_dir.clone())
        .with_max_length(config.max_tokens)
        .with_show_download_progress(false);
    options.intra_threads = threads;
    TextEmbedding::try_new(options)
        .map_err(|source| LoadError::Model { origin: name.to_owned(), source: Box::new(source) })
}

/// Uses fastembed's tokenizer, so that both count the same.
fn model_tokenizer(model: &TextEmbedding, max_tokens: usize) -> Result<Tokenizer, LoadError> {
    let limit = model.tokenizer.get_truncation().map_or(max_tokens, |truncation| truncation.max_length);
    if limit < max_tokens {
        return Err(LoadError::MaxTokens { max_tokens, limit });
    }
    Ok(Tokenizer::new(model.tokenizer.clone(), max_tokens)?)
}

fn check_dimensions(model: &mut TextEmbedding, dimensions: usize) -> Result<(), LoadError> {
    let vectors = model.embed(["test"], None).map_err(|reason| LoadError::TestText(reason.to_string()))?;
    let found = vectors.first().map_or(0, Vec::len);
    if found == dimensions { Ok(()) } else { Err(LoadError::Dimensions { expected: dimensions, found }) }
}

fn into_model(mut model: TextEmbedding) -> Model {
    Box::new(move |texts| {
        // One batch per call: fastembed keeps the output of all batches of a call until the end.
        let vectors =
            model.embed(texts, Some(texts.len())).map_err(|reason| EmbedError::Model(reason.to_string()))?;
        if vectors.len() == texts.len() {
            Ok(vectors)
        } else {
            Err(EmbedError::Model(format!("{} vectors for {} texts", vectors.len(), texts.len())))
        }
    })
}
