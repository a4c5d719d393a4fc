//! Measures one method in the current process, which the benchmark starts as a child.

use guildex_embed::{Embedder, LocalConfig, LocalEmbedder};
use tokio::task::spawn_blocking;

use super::gemm;
use super::measurement::{Measurement, Stopwatch};
use super::method::EmbedMethod;
use crate::BenchError;
use crate::measure::resident_mib;

/// Texts embedded before the measurement, so that memory and weights are in place.
const WARM_UP: usize = 16;

/// Measures one method with the model of `config`. Requires a multi-threaded tokio runtime.
///
/// # Errors
/// If the model cannot be loaded or fails.
pub async fn run(
    method: EmbedMethod,
    config: LocalConfig,
    texts: Vec<String>,
) -> Result<Measurement, BenchError> {
    match method {
        EmbedMethod::Ours(instances) => ours(LocalConfig { instances, ..config }, texts).await,
        EmbedMethod::Fastembed(batch) => spawn_blocking(move || fastembed(&config, batch, &texts)).await?,
        EmbedMethod::Gemm(threads) => spawn_blocking(move || gemm::measure(&config, threads)).await?,
    }
}

async fn ours(config: LocalConfig, texts: Vec<String>) -> Result<Measurement, BenchError> {
    let model = spawn_blocking(move || LocalEmbedder::load(config)).await??;
    let idle_mib = resident_mib();
    model.embed(texts.iter().take(WARM_UP).cloned().collect()).await?;
    let stopwatch = Stopwatch::start(idle_mib);
    model.embed(texts).await?;
    Ok(stopwatch.stop())
}

fn fastembed(config: &LocalConfig, batch: usize, texts: &[String]) -> Result<Measurement, BenchError> {
    let failed = |error: fastembed::Error| BenchError::Fastembed(error.to_string());
    let mut model = guildex_embed::fastembed_model(config, None)?;
    let idle_mib = resident_mib();
    model.embed(texts.iter().take(WARM_UP).collect::<Vec<_>>(), Some(batch)).map_err(failed)?;
    let stopwatch = Stopwatch::start(idle_mib);
    model.embed(texts, Some(batch)).map_err(failed)?;
    Ok(stopwatch.stop())
}
