//! Embedding throughput: texts through the model and nothing else, the upper bound of the pipeline.
//!
//! Each method of calling the model runs in its own process, so that its memory can be measured. Methods take turns, so
//! that other load on the machine affects all alike.

mod child_process;
mod gemm;
mod measurement;
mod method;
mod options;
mod texts;

use std::process::Stdio;

use guildex_embed::Tokenizer;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use self::child_process::run as run_in_process;
pub use self::measurement::Measurement;
use self::method::DEFAULT_BATCH;
pub use self::method::EmbedMethod;
pub use self::options::Embed;
use crate::measure::median;
use crate::{BenchError, Program, Report, round};

/// Weights of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The configured model.
    Configured,
    /// The model in int8.
    Int8,
}

/// Line of the report with the measurements of its runs.
struct Line {
    precision: Precision,
    method: EmbedMethod,
    runs: Vec<Measurement>,
}

impl Line {
    fn new(precision: Precision, method: EmbedMethod) -> Self {
        Self { precision, method, runs: Vec::new() }
    }

    fn median(&self, value: impl Fn(&Measurement) -> f64) -> f64 {
        median(self.runs.iter().map(value)).unwrap_or_default()
    }
}

/// Runs all methods in turn. `tokenizer` is that of the model.
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
        "{} texts as embedded by a worker, {:.1} tokens on average; medians of {} runs",
        texts.len(),
        tokens as f64 / texts.len().max(1) as f64,
        options.runs
    );
    Ok(report(about, &lines, &lengths))
}

fn lines(options: &Embed) -> Vec<Line> {
    let precisions =
        [Precision::Configured].into_iter().chain(options.int8.as_ref().map(|_| Precision::Int8));
    let ours = || options.threads.iter().copied().map(EmbedMethod::Ours);
    let fastembed = [1, 32, DEFAULT_BATCH].map(EmbedMethod::Fastembed);
    let models = precisions
        .flat_map(|precision| ours().chain(fastembed).map(move |method| Line::new(precision, method)));
    let peaks =
        options.threads.iter().map(|&threads| Line::new(Precision::Configured, EmbedMethod::Gemm(threads)));
    models.chain(peaks).collect()
}

/// Runs a method in a child process, with the texts on its standard input.
async fn child(
    program: &Program,
    line: &Line,
    options: &Embed,
    texts: &[String],
) -> Result<Measurement, BenchError> {
    let method = line.method.to_string();
    let mut command = Command::new(&program.executable);
    command.args(&program.flags).args(["bench", "embed-process", &method]);
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
        // A child that ends early reports the reason itself.
        let _ = input.write_all(json!(texts).to_string().as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(BenchError::Process)?;
    let failed =
        |output: String| BenchError::Failed { command: format!("bench embed-process {method}"), output };
    if !output.status.success() {
        return Err(failed("see the error above".to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

fn report(about: String, lines: &[Line], lengths: &[usize]) -> Report {
    let mut report = Report::new(
        "embed",
        about,
        &[
            "weights",
            "method",
            "threads",
            "texts/s",
            "tokens/s",
            "texts/core-s",
            "x fastembed 256",
            "x fastembed 256, configured",
            "GFLOP/s",
            "% of GEMM",
            "% by core-s",
            "peak MiB",
            "idle MiB",
        ],
    );
    let tokens: usize = lengths.iter().sum();
    let texts = lengths.len() as f64;
    let model: f64 = lengths.iter().map(|&length| gemm::flops_of_text(length)).sum();
    let find =
        |precision, method| lines.iter().find(|line| line.precision == precision && line.method == method);
    for line in lines {
        let (seconds, processor) =
            (line.median(|run| run.seconds).max(1e-9), line.median(|run| run.processor).max(1e-9));
        let gemm = |threads| find(Precision::Configured, EmbedMethod::Gemm(threads));
        let (name, threads, flops) = match line.method {
            EmbedMethod::Ours(threads) => ("ours".to_owned(), Some(threads), model / seconds),
            EmbedMethod::Fastembed(DEFAULT_BATCH) => {
                ("fastembed default (batches of 256)".to_owned(), None, model / seconds)
            }
            EmbedMethod::Fastembed(1) => ("fastembed, single texts".to_owned(), None, model / seconds),
            EmbedMethod::Fastembed(batch) => {
                (format!("fastembed, batches of {batch}"), None, model / seconds)
            }
            EmbedMethod::Gemm(threads) => {
                ("matrix products".to_owned(), Some(threads), line.median(gemm_flops))
            }
        };
        let is_model = !matches!(line.method, EmbedMethod::Gemm(_));
        let if_model = |value: Value| if is_model { value } else { Value::Null };
        let peak = threads.filter(|_| is_model && line.precision == Precision::Configured).and_then(gemm);
        let percent_of_peak = |flops: f64, value: fn(&Measurement) -> f64| {
            peak.map_or(Value::Null, |gemm| round(100.0 * flops / gemm.median(value).max(1e-9), 0))
        };
        let speedup = |precision| {
            let default = find(precision, EmbedMethod::Fastembed(DEFAULT_BATCH)).filter(|_| is_model);
            default.map_or(Value::Null, |line| round(line.median(|run| run.seconds) / seconds, 2))
        };
        report.row([
            json!(match (line.method, line.precision) {
                (EmbedMethod::Gemm(_), _) => "fp32",
                (_, Precision::Configured) => "configured",
                (_, Precision::Int8) => "int8",
            }),
            json!(name),
            threads.map_or(Value::Null, |threads| json!(threads)),
            if_model(round(texts / seconds, 0)),
            if_model(round(tokens as f64 / seconds, 0)),
            if_model(round(texts / processor, 1)),
            speedup(line.precision),
            speedup(Precision::Configured),
            round(flops / 1e9, 0),
            percent_of_peak(flops, gemm_flops),
            percent_of_peak(model / processor, |run| run.flops / run.processor.max(1e-9)),
            round(line.median(|run| run.peak_mib), 0),
            if_model(round(line.median(|run| run.idle_mib), 0)),
        ]);
    }
    report
}

/// Floating-point operations per second of the matrix products.
fn gemm_flops(run: &Measurement) -> f64 {
    run.flops / run.seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_compares_with_fastembed_defaults_and_the_peak() {
        let measured =
            |seconds, flops| Measurement { seconds, processor: 1.5, flops, ..Measurement::default() };
        let line = |method, run| Line { runs: vec![run], ..Line::new(Precision::Configured, method) };
        let lengths = [10, 30];
        let model: f64 = lengths.iter().map(|&length| gemm::flops_of_text(length)).sum();
        let lines = [
            line(EmbedMethod::Ours(1), measured(2.0, 0.0)),
            line(EmbedMethod::Fastembed(256), measured(10.0, 0.0)),
            line(EmbedMethod::Gemm(1), measured(1.0, model)),
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
