//! One way to call a model, in a process of its own.

use std::time::Instant;

use guildex_embed::{Embedder, LocalConfig, LocalEmbedder};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{Way, gemm};
use crate::BenchError;
use crate::measure::{Cost, resident_mib};

/// Texts before the measurement, so that memory is there and weights are in place.
const WARM_UP: usize = 16;

/// What one run gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// On the clock.
    pub seconds: f64,
    /// Of all cores together.
    pub processor: f64,
    /// The most memory that the process held at once.
    pub peak_mib: f64,
    /// What it held with the model loaded and nothing done.
    pub rest_mib: f64,
    /// Floating-point operations, where they were counted.
    pub flops: f64,
}

/// Measures one way with the model of `config`. Wants a tokio runtime of several threads.
///
/// # Errors
/// If the model cannot be loaded or fails.
pub async fn alone(way: Way, config: LocalConfig, texts: Vec<String>) -> Result<Measured, BenchError> {
    match way {
        Way::Ours(instances) => ours(LocalConfig { instances, ..config }, texts).await,
        Way::Fastembed(batch) => spawn_blocking(move || fastembed(&config, batch, &texts)).await?,
        Way::Gemm(threads) => spawn_blocking(move || gemm::measure(&config, threads)).await?,
    }
}

async fn ours(config: LocalConfig, texts: Vec<String>) -> Result<Measured, BenchError> {
    let model = spawn_blocking(move || LocalEmbedder::load(config)).await??;
    let rest_mib = resident_mib();
    model.embed(texts.iter().take(WARM_UP).cloned().collect()).await?;
    let watch = Watch::start(rest_mib);
    model.embed(texts).await?;
    Ok(watch.stop())
}

fn fastembed(config: &LocalConfig, batch: usize, texts: &[String]) -> Result<Measured, BenchError> {
    let failed = |error: fastembed::Error| BenchError::Fastembed(error.to_string());
    let mut model = guildex_embed::fastembed_model(config, None)?;
    let rest_mib = resident_mib();
    model.embed(texts.iter().take(WARM_UP).collect::<Vec<_>>(), Some(batch)).map_err(failed)?;
    let watch = Watch::start(rest_mib);
    model.embed(texts, Some(batch)).map_err(failed)?;
    Ok(watch.stop())
}

/// The clock and the processor's time from one moment to another.
pub(super) struct Watch {
    begun: Instant,
    before: Cost,
    rest_mib: f64,
}

impl Watch {
    pub(super) fn start(rest_mib: f64) -> Self {
        Self { before: Cost::of_self(), begun: Instant::now(), rest_mib }
    }

    pub(super) fn stop(self) -> Measured {
        let (seconds, after) = (self.begun.elapsed().as_secs_f64(), Cost::of_self());
        Measured {
            seconds,
            processor: (after.processor - self.before.processor).as_secs_f64(),
            peak_mib: after.peak_mib,
            rest_mib: self.rest_mib,
            flops: 0.0,
        }
    }
}
