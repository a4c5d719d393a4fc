//! Peak throughput of the machine: only the matrix products of the model, through the same ONNX Runtime.
//!
//! The shapes are those of all-MiniLM-L6-v2, whose six layers have the same four matrices.

use std::thread;
use std::time::{Duration, Instant};

use guildex_embed::LocalConfig;
use ort::session::Session;
use ort::value::Tensor;

use super::measurement::{Measurement, Stopwatch};
use crate::BenchError;
use crate::measure::resident_mib;

/// Rows and columns of a layer's matrices: queries, keys and values combined; attention output; feed-forward up and down.
const MATRICES: [(usize, usize); 4] = [(384, 1152), (384, 384), (384, 1536), (1536, 384)];
const LAYERS: usize = 6;
const WIDTH: usize = 384;
/// Tokens per product. 256 to 1,024 give the same result within the noise.
const TOKENS: usize = 512;
/// Run time of a thread.
const DURATION: Duration = Duration::from_secs(2);

/// Multiplications and additions of the model for a text of this length: dense layers and attention. Leaves out norms and
/// padding.
pub(super) fn flops_of_text(tokens: usize) -> f64 {
    let dense: usize = MATRICES.iter().map(|(rows, columns)| 2 * rows * columns).sum();
    let attention = 4 * tokens * WIDTH;
    (tokens * LAYERS * (dense + attention)) as f64
}

/// Multiplies on this number of threads, like the instances of a model.
///
/// # Errors
/// If ONNX Runtime cannot be loaded or fails.
pub(super) fn measure(config: &LocalConfig, threads: usize) -> Result<Measurement, BenchError> {
    guildex_embed::load_onnx_runtime(config.onnx_runtime.as_deref())?;
    let environment = ort::init().build()?;
    let session = |(rows, columns)| {
        let mut builder = Session::builder(&environment)?.with_intra_threads(1)?;
        builder.commit_from_memory(&matmul_model(rows, columns))
    };
    let thread_sessions = |_| MATRICES.into_iter().map(session).collect::<ort::Result<Vec<_>>>();
    let mut threads = (0..threads).map(thread_sessions).collect::<ort::Result<Vec<_>>>()?;
    for sessions in &mut threads {
        layer(sessions)?;
    }
    let stopwatch = Stopwatch::start(resident_mib());
    let layers = thread::scope(|scope| {
        let running: Vec<_> =
            threads.into_iter().map(|sessions| scope.spawn(move || layers(sessions))).collect();
        running
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or(Err(BenchError::Stuck("a thread with matrix products panicked")))
            })
            .sum::<Result<usize, _>>()
    })?;
    let layer_flops: usize = MATRICES.iter().map(|(rows, columns)| 2 * TOKENS * rows * columns).sum();
    Ok(Measurement { flops: (layers * layer_flops) as f64, ..stopwatch.stop() })
}

/// Multiplies for the run time and returns the number of layers.
fn layers(mut sessions: Vec<Session>) -> Result<usize, BenchError> {
    let (start, mut layers) = (Instant::now(), 0);
    while start.elapsed() < DURATION {
        layer(&mut sessions)?;
        layers += 1;
    }
    Ok(layers)
}

fn layer(sessions: &mut [Session]) -> ort::Result<()> {
    for (session, (rows, _)) in sessions.iter_mut().zip(MATRICES) {
        let x = Tensor::from_array(([TOKENS, rows], numbers(TOKENS * rows)))?;
        session.run(ort::inputs![x])?;
    }
    Ok(())
}

/// Arbitrary numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|n| (n * 7_919 % 1_000) as f32 / 1_000.0 - 0.5).collect()
}

/// ONNX file of `y = x W` with a constant W of this size.
fn matmul_model(rows: usize, columns: usize) -> Vec<u8> {
    const FLOAT: u64 = 1;
    let weights: Vec<u8> = numbers(rows * columns).into_iter().flat_map(f32::to_le_bytes).collect();
    // Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
    let dimension = |size: usize| bytes(1, &number_field(1, size as u64));
    let any = bytes(1, &bytes(2, b"tokens"));
    let value = |name: &[u8], width: usize| {
        let shape = [any.clone(), dimension(width)].concat();
        let tensor = [number_field(1, FLOAT), bytes(2, &shape)].concat();
        [bytes(1, name), bytes(2, &bytes(1, &tensor))].concat()
    };
    let matrix = [
        number_field(1, rows as u64),
        number_field(1, columns as u64),
        number_field(2, FLOAT),
        bytes(8, b"w"),
        bytes(9, &weights),
    ];
    let node = [bytes(1, b"x"), bytes(1, b"w"), bytes(2, b"y"), bytes(4, b"MatMul")];
    let graph = [
        bytes(1, &node.concat()),
        bytes(2, b"product"),
        bytes(5, &matrix.concat()),
        bytes(11, &value(b"x", rows)),
        bytes(12, &value(b"y", columns)),
    ];
    let operators = number_field(2, 17);
    [number_field(1, 8), bytes(7, &graph.concat()), bytes(8, &operators)].concat()
}

/// Protocol Buffers field with a number.
fn number_field(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

/// Protocol Buffers field with bytes, a text or a message.
fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while number >= 0x80 {
        encoded.push(number as u8 | 0x80);
        number >>= 7;
    }
    encoded.push(number as u8);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_protocol_buffers() {
        assert_eq!(number_field(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(2, b"testing"), *b"\x12\x07testing");
    }

    #[test]
    fn a_token_of_an_average_text_takes_about_22_megaflops() {
        let per_token = flops_of_text(77) / 77.0;
        assert!((21.9e6..22.0e6).contains(&per_token), "{per_token}");
    }
}
