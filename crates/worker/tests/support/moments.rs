//! The moments of an index job between which a crash or a change may fall. Tests hold a worker up at one, or do
//! something else at the very same time.

use std::sync::Mutex;

use guildex_types::SessionId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The session is read, and is not embedded yet.
    Embedding,
    /// Its points are made, and not written yet.
    Upserting,
    /// They are written, and the older ones are still there.
    Upserted,
    /// The older ones are gone, and nothing is recorded yet.
    Recording,
}

impl Moment {
    pub const ALL: [Self; 4] = [Self::Embedding, Self::Upserting, Self::Upserted, Self::Recording];
}

/// Who is told of a moment, and of which sessions.
type Told = UnboundedSender<(Moment, Vec<SessionId>)>;

#[derive(Default)]
pub struct Moments {
    trap: Mutex<Option<Moment>>,
    caught: watch::Sender<usize>,
    released: watch::Sender<usize>,
    told: Mutex<Option<Told>>,
}

impl Moments {
    /// Whoever comes to the moment next is held there; others pass.
    pub fn trap(&self, moment: Moment) {
        *self.trap.lock().unwrap() = Some(moment);
    }

    /// Until somebody is held.
    pub async fn until_caught(&self) {
        let released = *self.released.borrow();
        let mut caught = self.caught.subscribe();
        timeout(PATIENCE, caught.wait_for(|caught| *caught > released)).await.expect("a catch").unwrap();
    }

    /// Lets who is held go on.
    pub fn release(&self) {
        self.released.send_modify(|released| *released += 1);
    }

    /// Which sessions come to which moment (to the first of them: nobody knows), from now on. Nobody waits for the
    /// listener.
    pub fn listen(&self) -> UnboundedReceiver<(Moment, Vec<SessionId>)> {
        let (tell, told) = unbounded_channel();
        *self.told.lock().unwrap() = Some(tell);
        told
    }

    pub(super) async fn pass(&self, moment: Moment, sessions: impl Fn() -> Vec<SessionId>) {
        if let Some(tell) = &*self.told.lock().unwrap() {
            let _ = tell.send((moment, sessions()));
        }
        let caught = {
            let mut trap = self.trap.lock().unwrap();
            if *trap != Some(moment) {
                return;
            }
            *trap = None;
            let mut caught = 0;
            self.caught.send_modify(|count| {
                *count += 1;
                caught = *count;
            });
            caught
        };
        self.released.subscribe().wait_for(|released| *released >= caught).await.unwrap();
    }
}
