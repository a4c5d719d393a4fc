//! A claimed job, until its attempt ends.

use guildex_store::jobs::{ClaimToken, Claimed};
use guildex_types::{Job, JobId, Revision};
use tracing::Span;

use crate::completer::{Completer, DeliveryAck, JobResult, Outcome};

/// A job that this worker has claimed. Ended by [`finish`](Self::finish); one that is dropped before that has panicked,
/// or is released because the worker stops.
pub(crate) struct ClaimedJob {
    pub id: JobId,
    pub job: Job,
    pub target_revision: Revision,
    /// `job{id, kind, guild, attempt}`: log lines about the job are written in it.
    pub span: Span,
    token: ClaimToken,
    attempt: u32,
    completer: Completer,
    ack: Option<DeliveryAck>,
}

impl ClaimedJob {
    pub fn new(claimed: &Claimed, job: Job, span: Span, completer: Completer, ack: DeliveryAck) -> Self {
        let Claimed { id, token, target_revision, attempt, .. } = *claimed;
        Self { id, job, target_revision, span, token, attempt, completer, ack: Some(ack) }
    }

    pub fn finish(mut self, outcome: Outcome) {
        self.submit(outcome);
    }

    fn submit(&mut self, outcome: Outcome) {
        // The job covers every change known at its claim, also where the target revision is above the session's.
        let outcome = match outcome {
            Outcome::Completed(reached) => Outcome::Completed(reached.max(self.target_revision)),
            other => other,
        };
        if let Some(ack) = self.ack.take() {
            self.completer.submit(JobResult {
                lease: (self.id, self.token),
                attempt: self.attempt,
                outcome,
                span: self.span.clone(),
                _ack: ack,
            });
        }
    }
}

impl Drop for ClaimedJob {
    fn drop(&mut self) {
        self.submit(Outcome::of_dropped());
    }
}
