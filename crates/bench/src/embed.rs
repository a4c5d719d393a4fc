//! Texts through the embedding model, and nothing else: what the whole pipeline can come up to.
//!
//! Each way to call the model runs in a process of its own, in turn with the others, so that its memory is its own
//! and what else the machine does falls on all alike.

mod alone;
mod gemm;
mod texts;

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;

use guildex_types::Eligibility;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use alone::{Measured, alone};
use guildex_embed::Tokenizer;
use guildex_producer::sessionizer::Rules;

use crate::measure::median;
use crate::{BenchError, Program, Report, round};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Embed {
    /// Exports, or folders of them.
    pub exports: Vec<PathBuf>,
    /// How sessions are made of them.
    pub rules: Rules,
    /// PointSelector of them have texts.
    pub eligible: Eligibility,
    /// Texts of a run, taken evenly from all that there are.
    pub texts: usize,
    /// The most tokens of a text.
    pub tokens: usize,
    /// Runs of each kind.
    pub runs: usize,
    /// Numbers of threads to compare.
    pub threads: Vec<usize>,
    /// A folder with the model in int8, to compare the two.
    pub int8: Option<PathBuf>,
}

/// PointSelector weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The configured model.
    Configured,
    /// The one in int8.
    Int8,
}

/// A way to call a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As this program does it, in so many sessions of one thread each.
    Ours(usize),
    /// fastembed by itself with all cores, all texts in one call, in batches of so many.
    Fastembed(usize),
    /// No model: products of matrices as the model has them, on so many threads.
    Gemm(usize),
}

/// fastembed's own, which it uses where it is told nothing.
const DEFAULT_BATCH: usize = 256;

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(threads) => write!(f, "ours:{threads}"),
            Self::Fastembed(batch) => write!(f, "fastembed:{batch}"),
            Self::Gemm(threads) => write!(f, "gemm:{threads}"),
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text} is no way to call a model");
        let (name, number) = text.split_once(':').ok_or_else(unknown)?;
        let number = number.parse().map_err(|_| unknown())?;
        match name {
            "ours" => Ok(Self::Ours(number)),
            "fastembed" => Ok(Self::Fastembed(number)),
            "gemm" => Ok(Self::Gemm(number)),
            _ => Err(unknown()),
        }
    }
}

/// One line of the report, and what its runs gave.
struct Line {
    precision: Precision,
    way: Way,
    runs: Vec<Measured>,
}

impl Line {
    fn new(precision: Precision, way: Way) -> Self {
        Self { precision, way, runs: Vec::new() }
    }

    fn median(&self, value: impl Fn(&Measured) -> f64) -> f64 {
        median(self.runs.iter().map(value)).unwrap_or_default()
    }
}

/// Runs all ways in turn, as often as asked. `tokenizer` is the model's.
///
/// # Errors
/// If the exports or a model cannot be read, or a process fails.
pub async fn run(program: &Program, tokenizer: &Tokenizer, options: &Embed) -> Result<Report, BenchError> {
    let texts = texts::read(options, tokenizer)?;
    let lengths = texts.iter().map(|text| tokenizer.count(text)).collect::<Result<Vec<_>, _>>()?;
    let tokens: usize = lengths.iter().sum();
    let mut lines = lines(options);
    for _ in 0..options.runs {
        for line in &mut lines {
            line.runs.push(child(program, line, options, &texts).await?);
        }
    }
    let about = format!(
        "{} texts as a worker reads them, {:.1} tokens on average; medians of {} runs",
        texts.len(),
        tokens as f64 / texts.len().max(1) as f64,
        options.runs
    );
    Ok(report(about, &lines, &lengths))
}

fn lines(options: &Embed) -> Vec<Line> {
    let precisions =
        [Precision::Configured].into_iter().chain(options.int8.as_ref().map(|_| Precision::Int8));
    let ours = || options.threads.iter().copied().map(Way::Ours);
    let fastembed = [1, 32, DEFAULT_BATCH].map(Way::Fastembed);
    let models =
        precisions.flat_map(|precision| ours().chain(fastembed).map(move |way| Line::new(precision, way)));
    let peaks = options.threads.iter().map(|&threads| Line::new(Precision::Configured, Way::Gemm(threads)));
    models.chain(peaks).collect()
}

/// The same program, with the texts on its standard input.
async fn child(
    program: &Program,
    line: &Line,
    options: &Embed,
    texts: &[String],
) -> Result<Measured, BenchError> {
    let way = line.way.to_string();
    let mut command = Command::new(&program.executable);
    command.args(&program.flags).args(["bench", "embed-alone", &way]);
    if let (Precision::Int8, Some(folder)) = (line.precision, &options.int8) {
        command.arg("--model").arg(folder);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(BenchError::Process)?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends before it has read all tells by itself why.
        let _ = input.write_all(json!(texts).to_string().as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(BenchError::Process)?;
    let failed = |told: String| BenchError::Failed { command: format!("bench embed-alone {way}"), told };
    if !output.status.success() {
        return Err(failed("its reason stands above".to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

fn report(about: String, lines: &[Line], lengths: &[usize]) -> Report {
    let mut report = Report::new(
        "embed",
        about,
        &[
            "weights",
            "way",
            "threads",
            "texts/s",
            "tokens/s",
            "texts/core-s",
            "x fastembed 256",
            "x that of configured",
            "GFLOP/s",
            "% of GEMM",
            "% by core-s",
            "peak MiB",
            "at rest MiB",
        ],
    );
    let tokens: usize = lengths.iter().sum();
    let texts = lengths.len() as f64;
    let model: f64 = lengths.iter().map(|&length| gemm::flops_of_text(length)).sum();
    let of = |precision, way| lines.iter().find(|line| line.precision == precision && line.way == way);
    for line in lines {
        let (seconds, processor) =
            (line.median(|run| run.seconds).max(1e-9), line.median(|run| run.processor).max(1e-9));
        let gemm = |threads| of(Precision::Configured, Way::Gemm(threads));
        let (name, threads, flops) = match line.way {
            Way::Ours(threads) => ("ours".to_owned(), Some(threads), model / seconds),
            Way::Fastembed(DEFAULT_BATCH) => {
                ("fastembed, as it is (batches of 256)".to_owned(), None, model / seconds)
            }
            Way::Fastembed(1) => ("fastembed, one text a batch".to_owned(), None, model / seconds),
            Way::Fastembed(batch) => (format!("fastembed, batches of {batch}"), None, model / seconds),
            Way::Gemm(threads) => ("matrices alone".to_owned(), Some(threads), line.median(gemm_flops)),
        };
        let is_model = !matches!(line.way, Way::Gemm(_));
        let when_model = |value: Value| if is_model { value } else { Value::Null };
        let peak = threads.filter(|_| is_model && line.precision == Precision::Configured).and_then(gemm);
        let share = |flops: f64, of: fn(&Measured) -> f64| {
            peak.map_or(Value::Null, |gemm| round(100.0 * flops / gemm.median(of).max(1e-9), 0))
        };
        let times = |precision| {
            let default = of(precision, Way::Fastembed(DEFAULT_BATCH)).filter(|_| is_model);
            default.map_or(Value::Null, |line| round(line.median(|run| run.seconds) / seconds, 2))
        };
        report.row([
            json!(match (line.way, line.precision) {
                (Way::Gemm(_), _) => "fp32",
                (_, Precision::Configured) => "configured",
                (_, Precision::Int8) => "int8",
            }),
            json!(name),
            threads.map_or(Value::Null, |threads| json!(threads)),
            when_model(round(texts / seconds, 0)),
            when_model(round(tokens as f64 / seconds, 0)),
            when_model(round(texts / processor, 1)),
            times(line.precision),
            times(Precision::Configured),
            round(flops / 1e9, 0),
            share(flops, gemm_flops),
            share(model / processor, |run| run.flops / run.processor.max(1e-9)),
            round(line.median(|run| run.peak_mib), 0),
            when_model(round(line.median(|run| run.rest_mib), 0)),
        ]);
    }
    report
}

/// Floating-point operations a second of the products alone.
fn gemm_flops(run: &Measured) -> f64 {
    run.flops / run.seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_can_be_told_to_a_process() {
        for way in [Way::Ours(2), Way::Fastembed(256), Way::Gemm(1)] {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        assert!("ours".parse::<Way>().is_err() && "theirs:1".parse::<Way>().is_err());
    }

    #[test]
    fn a_report_compares_with_the_default_call_and_with_the_peak() {
        let measured = |seconds, flops| Measured { seconds, processor: 1.5, flops, ..Measured::default() };
        let line = |way, run| Line { runs: vec![run], ..Line::new(Precision::Configured, way) };
        let lengths = [10, 30];
        let model: f64 = lengths.iter().map(|&length| gemm::flops_of_text(length)).sum();
        let lines = [
            line(Way::Ours(1), measured(2.0, 0.0)),
            line(Way::Fastembed(256), measured(10.0, 0.0)),
            line(Way::Gemm(1), measured(1.0, model)),
        ];
        let report = serde_json::to_value(report("two texts".to_owned(), &lines, &lengths)).unwrap();
        let row = |number: usize| report["rows"][number].clone();
        assert_eq!((&row(0)["x fastembed 256"], &row(0)["% of GEMM"]), (&json!(5.0), &json!(50)));
        assert_eq!(row(0)["% by core-s"], json!(100));
        assert_eq!((&row(0)["texts/s"], &row(0)["tokens/s"]), (&json!(1), &json!(20)));
        assert_eq!((&row(1)["x fastembed 256"], &row(1)["% of GEMM"]), (&json!(1.0), &Value::Null));
        assert_eq!(row(2)["texts/s"], Value::Null);
    }
}
