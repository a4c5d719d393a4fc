//! Steps of an index job between which a crash or a change may occur. Tests block a worker at a step, or act at the same
//! time.

use std::sync::Mutex;

use guildex_types::SessionId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

use super::TIMEOUT;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The session is loaded and not embedded yet.
    Embedding,
    /// The points are complete and not written yet.
    Upserting,
    /// New points are written and older ones not deleted yet.
    Upserted,
    /// Older points are deleted and nothing is recorded yet.
    Recording,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Embedding, Self::Upserting, Self::Upserted, Self::Recording];
}

/// Receives steps and their sessions.
type Listener = UnboundedSender<(Step, Vec<SessionId>)>;

#[derive(Default)]
pub struct Steps {
    trap: Mutex<Option<Step>>,
    blocked: watch::Sender<usize>,
    released: watch::Sender<usize>,
    listener: Mutex<Option<Listener>>,
}

impl Steps {
    /// Blocks the next job that reaches the step; later ones pass.
    pub fn block_at(&self, step: Step) {
        *self.trap.lock().unwrap() = Some(step);
    }

    /// Waits until a job is blocked.
    pub async fn until_blocked(&self) {
        let released = *self.released.borrow();
        let mut blocked = self.blocked.subscribe();
        timeout(TIMEOUT, blocked.wait_for(|blocked| *blocked > released))
            .await
            .expect("a job reaches the step")
            .unwrap();
    }

    /// Unblocks the job.
    pub fn release(&self) {
        self.released.send_modify(|released| *released += 1);
    }

    /// Reports steps and their sessions from now on (unknown for the first step). Jobs do not wait for the listener.
    pub fn listen(&self) -> UnboundedReceiver<(Step, Vec<SessionId>)> {
        let (sender, receiver) = unbounded_channel();
        *self.listener.lock().unwrap() = Some(sender);
        receiver
    }

    pub(super) async fn pass(&self, step: Step, sessions: impl Fn() -> Vec<SessionId>) {
        if let Some(listener) = &*self.listener.lock().unwrap() {
            let _ = listener.send((step, sessions()));
        }
        let blocked = {
            let mut trap = self.trap.lock().unwrap();
            if *trap != Some(step) {
                return;
            }
            *trap = None;
            let mut blocked = 0;
            self.blocked.send_modify(|count| {
                *count += 1;
                blocked = *count;
            });
            blocked
        };
        self.released.subscribe().wait_for(|released| *released >= blocked).await.unwrap();
    }
}
