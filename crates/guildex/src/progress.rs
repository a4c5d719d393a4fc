//! Progress of long operations: bars on a terminal, otherwise a plain line every few seconds.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Interval between plain lines.
const PLAIN_PERIOD: Duration = Duration::from_secs(5);

/// All bars of the process, so that log lines are written above them.
pub fn bars() -> &'static MultiProgress {
    static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &BARS
}

/// Unit of progress.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Bytes of files.
    Bytes,
    /// Anything else, by name.
    Things(&'static str),
}

/// Progress of an operation.
pub struct Progress {
    label: &'static str,
    unit: Unit,
    bar: ProgressBar,
    /// Time of the last plain line, if standard error is not a terminal.
    plain: Option<Instant>,
}

impl Progress {
    /// Starts an operation with `total` units.
    pub fn new(label: &'static str, unit: Unit, total: u64) -> Self {
        let numbers = match unit {
            Unit::Bytes => "{binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}".to_owned(),
            Unit::Things(name) => format!("{{human_pos}}/{{human_len}} {name} {{per_sec}}"),
        };
        let template = format!("{{prefix}} {{bar:30}} {numbers} ETA {{eta}} {{msg}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bars().add(ProgressBar::new(total).with_style(style).with_prefix(label));
        let plain = (!std::io::stderr().is_terminal()).then(Instant::now);
        Self { label, unit, bar, plain }
    }

    /// Sets the progress to `done` of `total` units.
    pub fn update(&mut self, done: u64, total: u64, message: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
        if self.plain.is_some_and(|last| last.elapsed() >= PLAIN_PERIOD) {
            self.line(message);
            self.plain = Some(Instant::now());
        }
    }

    /// Ends the operation; the last line stays visible.
    pub fn finish(self, message: &str) {
        if self.plain.is_some() {
            self.line(message);
        }
        self.bar.finish_with_message(message.to_owned());
    }

    fn line(&self, message: &str) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        let unit = match self.unit {
            Unit::Bytes => "bytes",
            Unit::Things(name) => name,
        };
        let eta = match self.bar.eta().as_secs() {
            0 => String::new(),
            seconds => format!(", {seconds} s left"),
        };
        eprintln!("{}: {done}/{total} {unit} ({percent}%{eta}) {message}", self.label);
    }
}
