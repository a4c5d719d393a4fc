//! Model sessions: threads that each own one copy of the model and feed from one queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use async_channel::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::embedder::EmbedError;
use crate::error::LoadError;

/// A loaded model: one vector a text, in order. Blocks.
pub(crate) type Model = Box<dyn FnMut(&[String]) -> Vectors + Send>;

/// Loads a model; called again when a session has panicked.
pub(crate) type Load = Arc<dyn Fn() -> Result<Model, LoadError> + Send + Sync>;

/// About a third of the share of a core that others get beside it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

type Vectors = Result<Vec<Vec<f32>>, EmbedError>;

struct Batch {
    texts: Vec<String>,
    begun: oneshot::Sender<()>,
    reply: oneshot::Sender<Vectors>,
}

/// Since when a session has been in a call, if it is in one.
type InCall = Arc<Mutex<Option<Instant>>>;

/// The threads and their queue. Dropping it stops the threads, each after the batch that it is in.
pub(crate) struct Sessions {
    queue: Sender<Batch>,
    calls: Vec<InCall>,
    threads: Vec<JoinHandle<()>>,
}

impl Sessions {
    /// Starts a thread for each of `models`. The queue holds one batch a thread: a session never idles while
    /// there is work, and a caller that is faster than the model waits.
    pub(crate) fn start(models: Vec<Model>, load: &Load) -> io::Result<Self> {
        let (queue, batches) = async_channel::bounded(models.len().max(1));
        let mut sessions = Self { queue, calls: Vec::new(), threads: Vec::with_capacity(models.len()) };
        for (number, model) in models.into_iter().enumerate() {
            let (batches, load, call) = (batches.clone(), load.clone(), InCall::default());
            sessions.calls.push(call.clone());
            let thread = thread::Builder::new().name(format!("embed-{number}"));
            sessions.threads.push(thread.spawn(move || serve(&batches, model, &load, &call))?);
        }
        Ok(sessions)
    }

    /// How many batches keep every session busy and the queue full.
    pub(crate) fn appetite(&self) -> usize {
        2 * self.threads.len()
    }

    /// Runs one batch on whichever session is free next; an error once that has been at it for longer than
    /// `limit`. The session is lost to others until the model returns.
    pub(crate) async fn run(&self, texts: Vec<String>, limit: Duration) -> Vectors {
        let ((begun, at_work), (reply, answer)) = (oneshot::channel(), oneshot::channel());
        self.queue.send(Batch { texts, begun, reply }).await.map_err(|_| EmbedError::Stopped)?;
        at_work.await.map_err(|_| EmbedError::Stopped)?;
        match timeout(limit, answer).await {
            Ok(answered) => answered.map_err(|_| EmbedError::Stopped)?,
            Err(_) => Err(EmbedError::Overdue(limit)),
        }
    }

    /// For how long the session has been in its call that has been so longest.
    pub(crate) fn longest_call(&self) -> Option<Duration> {
        self.calls.iter().filter_map(|call| *locked(call)).map(|since| since.elapsed()).max()
    }
}

fn locked(call: &InCall) -> MutexGuard<'_, Option<Instant>> {
    call.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.queue.close();
        // Waiting keeps ONNX Runtime from being unloaded under a running session.
        for thread in mem::take(&mut self.threads) {
            let _ = thread.join();
        }
    }
}

fn serve(batches: &Receiver<Batch>, model: Model, load: &Load, call: &InCall) {
    give_way();
    let mut model = Some(model);
    while let Ok(Batch { texts, begun, reply }) = batches.recv_blocking() {
        // The caller may have gone while its batch waited.
        if begun.send(()).is_ok() {
            *locked(call) = Some(Instant::now());
            let vectors = answer(&mut model, load, &texts);
            *locked(call) = None;
            let _ = reply.send(vectors);
        }
    }
}

/// Lets everything else go first where cores are few: what claims, reads and writes takes moments, and whoever waits for
/// it, a search among them, would wait for a batch. On Linux this is of the calling thread alone.
#[cfg(target_os = "linux")]
fn give_way() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the model's threads keep their priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

/// Runs a batch. The model is out of its slot meanwhile, so that a panic leaves the slot empty and the next
/// batch starts with a new model.
fn answer(slot: &mut Option<Model>, load: &Load, texts: &[String]) -> Vectors {
    let attempt = AssertUnwindSafe(|| {
        let mut model = match slot.take() {
            Some(model) => model,
            None => load()?,
        };
        let vectors = model(texts);
        *slot = Some(model);
        vectors
    });
    catch_unwind(attempt).unwrap_or(Err(EmbedError::Panicked))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// A model whose vectors are the lengths of the texts, and that fails as its texts tell it to.
    fn lengths() -> Model {
        Box::new(|texts| match texts.first().map(String::as_str) {
            Some("panic") => panic!("as told"),
            Some("fail") => Err(EmbedError::Model("as told".into())),
            _ => Ok(texts.iter().map(|text| vec![text.len() as f32]).collect()),
        })
    }

    fn batch(text: &str) -> Vec<String> {
        vec![text.into()]
    }

    #[tokio::test]
    async fn an_error_fails_its_batch_only() {
        let load: Load = Arc::new(|| panic!("there was no need to load again"));
        let sessions = Sessions::start(vec![lengths()], &load).unwrap();
        assert!(matches!(sessions.run(batch("fail"), Duration::MAX).await, Err(EmbedError::Model(_))));
        assert_eq!(sessions.run(batch("four"), Duration::MAX).await.unwrap(), [[4.0]]);
    }

    #[tokio::test]
    async fn a_panic_fails_its_batch_only_and_the_model_is_loaded_again() {
        let loads = Arc::new(AtomicUsize::new(0));
        let load: Load = Arc::new({
            let loads = loads.clone();
            move || match loads.fetch_add(1, Ordering::SeqCst) {
                0 => Err(LoadError::Dimensions { expected: 1, found: 2 }),
                1 => panic!("a panic in loading is survived too"),
                _ => Ok(lengths()),
            }
        });
        let sessions = Sessions::start(vec![lengths()], &load).unwrap();
        assert!(matches!(sessions.run(batch("panic"), Duration::MAX).await, Err(EmbedError::Panicked)));
        assert!(matches!(sessions.run(batch("four"), Duration::MAX).await, Err(EmbedError::Reload(_))));
        assert!(matches!(sessions.run(batch("four"), Duration::MAX).await, Err(EmbedError::Panicked)));
        assert_eq!(sessions.run(batch("four"), Duration::MAX).await.unwrap(), [[4.0]]);
        assert_eq!(sessions.run(batch("three"), Duration::MAX).await.unwrap(), [[5.0]]);
        assert_eq!(loads.load(Ordering::SeqCst), 3, "a healthy model was loaded again");
    }

    /// A model that tells each batch it begins and then waits to be let go on.
    fn gated() -> (Model, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (began, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let model: Model = Box::new(move |texts| {
            began.send(texts.concat()).unwrap();
            gate.recv().unwrap();
            Ok(vec![vec![1.0]; texts.len()])
        });
        (model, begun, go)
    }

    #[tokio::test]
    async fn work_of_a_caller_that_has_gone_is_skipped() {
        let (model, begun, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let sessions = Sessions::start(vec![model], &load).unwrap();

        let mut first = Box::pin(sessions.run(batch("first"), Duration::MAX));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(begun.recv().unwrap(), "first");
        let mut gone = Box::pin(sessions.run(batch("gone"), Duration::MAX));
        assert!(futures::poll!(&mut gone).is_pending(), "the batch is in the queue");
        drop(gone);

        go.send(()).unwrap();
        first.await.unwrap();
        go.send(()).unwrap();
        sessions.run(batch("last"), Duration::MAX).await.unwrap();
        assert_eq!(begun.recv().unwrap(), "last");
    }

    #[tokio::test]
    async fn a_full_queue_holds_callers_back() {
        let (model, begun, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let sessions = Sessions::start(vec![model], &load).unwrap();

        let mut calls: Vec<_> =
            ["a", "b", "c"].map(|text| Box::pin(sessions.run(batch(text), Duration::MAX))).into();
        assert!(futures::poll!(&mut calls[0]).is_pending());
        assert_eq!(begun.recv().unwrap(), "a");
        assert!(futures::poll!(&mut calls[1]).is_pending());
        assert!(futures::poll!(&mut calls[2]).is_pending());
        assert_eq!(sessions.queue.len(), 1, "one batch waits; the third caller holds its own");

        for _ in 0..3 {
            go.send(()).unwrap();
        }
        for call in calls {
            call.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_told_of_until_it_returns() {
        let (model, begun, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let sessions = Sessions::start(vec![model], &load).unwrap();
        assert_eq!(sessions.longest_call(), None);

        let limit = Duration::from_millis(1);
        let hung = sessions.run(batch("long"), limit).await;
        assert!(matches!(hung, Err(EmbedError::Overdue(after)) if after == limit));
        assert_eq!(begun.recv().unwrap(), "long");
        assert!(sessions.longest_call().is_some());

        go.send(()).unwrap();
        while sessions.longest_call().is_some() {
            thread::yield_now();
        }
        go.send(()).unwrap();
        sessions.run(batch("next"), Duration::MAX).await.unwrap();
    }

    #[tokio::test]
    async fn waiting_for_a_turn_is_not_hanging() {
        let (model, begun, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let sessions = Sessions::start(vec![model], &load).unwrap();
        let mut first = Box::pin(sessions.run(batch("first"), Duration::MAX));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(begun.recv().unwrap(), "first");

        let mut second = Box::pin(sessions.run(batch("second"), Duration::ZERO));
        assert!(futures::poll!(&mut second).is_pending(), "its clock does not run yet");
        go.send(()).unwrap();
        first.await.unwrap();
        assert!(second.await.unwrap_err().is_overdue());
        assert_eq!(begun.recv().unwrap(), "second");
        go.send(()).unwrap();
    }

    #[tokio::test]
    async fn dropping_the_sessions_ends_their_threads() {
        let alive = Arc::new(());
        let model = || -> Model {
            let alive = alive.clone();
            Box::new(move |texts| {
                let _ = &alive;
                Ok(vec![vec![]; texts.len()])
            })
        };
        let load: Load = Arc::new(|| Ok(lengths()));
        let sessions = Sessions::start(vec![model(), model()], &load).unwrap();
        assert_eq!(Arc::strong_count(&alive), 3);
        drop(sessions);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
