//! What the machine can do at most: the model's products of matrices, through the same ONNX Runtime, without the rest.
//!
//! The shapes are those of all-MiniLM-L6-v2, whose six layers all have the same four.

use std::thread;
use std::time::{Duration, Instant};

use guildex_embed::LocalConfig;
use ort::session::Session;
use ort::value::Tensor;

use super::alone::{Measured, Watch};
use crate::BenchError;
use crate::measure::resident_mib;

/// Rows and columns of a layer's matrices: queries, keys and values in one; their output; there and back.
const MATRICES: [(usize, usize); 4] = [(384, 1152), (384, 384), (384, 1536), (1536, 384)];
const LAYERS: usize = 6;
const WIDTH: usize = 384;
/// Tokens multiplied at once; from 256 to 1,024 they give the same within the noise.
const TOKENS: usize = 512;
/// How long a thread multiplies.
const ENOUGH: Duration = Duration::from_secs(2);

/// Multiplications and additions that the model takes for a text of so many tokens: its dense layers, and attention
/// of every token to every other. Norms and the like are left out, and so is padding.
pub(super) fn flops_of_text(tokens: usize) -> f64 {
    let dense: usize = MATRICES.iter().map(|(rows, columns)| 2 * rows * columns).sum();
    let attention = 4 * tokens * WIDTH;
    (tokens * LAYERS * (dense + attention)) as f64
}

/// Multiplies on each of so many threads, as the sessions of a model would.
///
/// # Errors
/// If ONNX Runtime cannot be loaded or refuses.
pub(super) fn measure(config: &LocalConfig, threads: usize) -> Result<Measured, BenchError> {
    guildex_embed::load_onnx_runtime(config.onnx_runtime.as_deref())?;
    let environment = ort::init().build()?;
    let session = |(rows, columns)| {
        let mut builder = Session::builder(&environment)?.with_intra_threads(1)?;
        builder.commit_from_memory(&product(rows, columns))
    };
    let of_thread = |_| MATRICES.into_iter().map(session).collect::<ort::Result<Vec<_>>>();
    let mut threads = (0..threads).map(of_thread).collect::<ort::Result<Vec<_>>>()?;
    for sessions in &mut threads {
        layer(sessions)?;
    }
    let watch = Watch::start(resident_mib());
    let layers = thread::scope(|scope| {
        let running: Vec<_> =
            threads.into_iter().map(|sessions| scope.spawn(move || layers(sessions))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(BenchError::Stuck("multiplying panicked"))))
            .sum::<Result<usize, _>>()
    })?;
    let of_layer: usize = MATRICES.iter().map(|(rows, columns)| 2 * TOKENS * rows * columns).sum();
    Ok(Measured { flops: (layers * of_layer) as f64, ..watch.stop() })
}

/// How many layers were enough.
fn layers(mut sessions: Vec<Session>) -> Result<usize, BenchError> {
    let (begun, mut layers) = (Instant::now(), 0);
    while begun.elapsed() < ENOUGH {
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

/// Any numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|n| (n * 7_919 % 1_000) as f32 / 1_000.0 - 0.5).collect()
}

/// The ONNX file of `y = x W`, with a constant W of that many rows and columns.
fn product(rows: usize, columns: usize) -> Vec<u8> {
    const FLOAT: u64 = 1;
    let weights: Vec<u8> = numbers(rows * columns).into_iter().flat_map(f32::to_le_bytes).collect();
    // The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
    let dimension = |size: usize| bytes(1, &whole(1, size as u64));
    let any = bytes(1, &bytes(2, b"tokens"));
    let value = |name: &[u8], width: usize| {
        let shape = [any.clone(), dimension(width)].concat();
        let tensor = [whole(1, FLOAT), bytes(2, &shape)].concat();
        [bytes(1, name), bytes(2, &bytes(1, &tensor))].concat()
    };
    let matrix = [
        whole(1, rows as u64),
        whole(1, columns as u64),
        whole(2, FLOAT),
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
    let operators = whole(2, 17);
    [whole(1, 8), bytes(7, &graph.concat()), bytes(8, &operators)].concat()
}

/// A field of Protocol Buffers that holds a number.
fn whole(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

/// A field of Protocol Buffers that holds bytes, a text or a message.
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
    fn numbers_are_encoded_as_protocol_buffers_do() {
        assert_eq!(whole(1, 150), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(2, b"testing"), *b"\x12\x07testing");
    }

    #[test]
    fn a_token_of_an_average_text_takes_some_twenty_two_megaflops() {
        let of_token = flops_of_text(77) / 77.0;
        assert!((21.9e6..22.0e6).contains(&of_token), "{of_token}");
    }
}
