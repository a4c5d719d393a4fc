//! Report of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::traffic::Counts;

/// Counters of a run. Those of [`Report::bad`] must be zero.
#[derive(Debug, Default)]
pub struct Report {
    pub faults: BTreeMap<Fault, usize>,
    pub counts: Counts,
    pub jobs: usize,
    /// Acknowledged messages that are missing or outdated.
    pub messages_lost: usize,
    /// Sessions that are not up to date although no job is left.
    pub jobs_lost: usize,
    pub jobs_dead: usize,
    /// Points of deleted sessions or messages.
    pub ghosts: usize,
    /// Outdated or missing points.
    pub stale: usize,
    pub duplicates: usize,
    /// Points under another guild.
    pub foreign: usize,
    /// Processes that exited unexpectedly.
    pub unasked: usize,
    /// Time from the end of a fault until a new message was indexed, by fault.
    pub longest_recovery: Option<(Duration, Fault)>,
    /// Output of `verify`.
    pub verified: Value,
}

impl Report {
    /// Counters that must be zero.
    pub fn bad(&self) -> [(&'static str, usize); 9] {
        [
            ("messages lost", self.messages_lost),
            ("jobs lost", self.jobs_lost),
            ("jobs dead", self.jobs_dead),
            ("duplicates", self.duplicates),
            ("stale or missing points", self.stale),
            ("ghosts", self.ghosts),
            ("ghosts seen by searches", self.counts.seen_ghosts),
            ("points of other guilds", self.foreign + self.counts.seen_foreign),
            ("processes that ended by themselves", self.unasked),
        ]
    }

    pub fn is_good(&self) -> bool {
        self.bad().iter().all(|(_, count)| *count == 0)
    }

    pub fn recovered(&mut self, after: Fault, took: Duration) {
        if self.longest_recovery.is_none_or(|(longest, _)| took > longest) {
            self.longest_recovery = Some((took, after));
        }
    }

    pub fn to_json(&self) -> Value {
        let faults: BTreeMap<String, usize> =
            self.faults.iter().map(|(fault, times)| (fault.to_string(), *times)).collect();
        let Counts { written, edited, deleted, forgotten, early, repeated, searched, .. } = self.counts;
        json!({
            "faults": faults,
            "acknowledged": {
                "written": written, "edited": edited, "deleted": deleted, "forgotten": forgotten,
                "deleted_early": early, "repeated": repeated,
            },
            "searches": searched,
            "jobs": self.jobs,
            "bad": self.bad().into_iter().collect::<BTreeMap<_, _>>(),
            "longest_recovery_ms": self.longest_recovery.map(|(took, _)| took.as_millis() as u64),
            "longest_recovery_after": self.longest_recovery.map(|(_, fault)| fault.to_string()),
            "verify": self.verified,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> =
            self.faults.iter().map(|(fault, times)| format!("{fault} {times}")).collect();
        writeln!(f, "faults injected: {} ({})", self.faults.values().sum::<usize>(), faults.join(", "))?;
        let Counts { written, edited, deleted, forgotten, early, repeated, searched, .. } = self.counts;
        writeln!(
            f,
            "acknowledged: {written} messages, {edited} edits, {deleted} deletions ({early} more before their \
             message), {forgotten} members and channels forgotten, {repeated} repetitions; {} jobs; {searched} \
             searches for deleted texts",
            self.jobs
        )?;
        for (what, count) in self.bad() {
            writeln!(f, "{what:>36}: {count}")?;
        }
        if let Some((took, after)) = self.longest_recovery {
            writeln!(f, "{:>36}: {:.1} s ({after})", "longest recovery", took.as_secs_f64())?;
        }
        Ok(())
    }
}
