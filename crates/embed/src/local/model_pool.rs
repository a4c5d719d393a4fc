//! Pool of model instances: threads that each own one instance and take batches from one queue.

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

/// Loaded model: returns one vector per text, in order. Blocks.
pub(crate) type Model = Box<dyn FnMut(&[String]) -> Vectors + Send>;

/// Loads a model; called again when an instance has panicked.
pub(crate) type Load = Arc<dyn Fn() -> Result<Model, LoadError> + Send + Sync>;

/// Gets about a third of the processor time that a thread of normal priority gets on the same core.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

type Vectors = Result<Vec<Vec<f32>>, EmbedError>;

struct Batch {
    texts: Vec<String>,
    started: oneshot::Sender<()>,
    reply: oneshot::Sender<Vectors>,
}

/// Start of the instance's current call, if any.
type CallStart = Arc<Mutex<Option<Instant>>>;

/// Threads and their queue. Dropping it stops each thread after its current batch.
pub(crate) struct ModelPool {
    queue: Sender<Batch>,
    calls: Vec<CallStart>,
    threads: Vec<JoinHandle<()>>,
}

impl ModelPool {
    /// Starts a thread for each of `models`. The queue holds one batch per thread, so that no instance idles while there
    /// is work and a caller that is faster than the model waits.
    pub(crate) fn start(models: Vec<Model>, load: &Load) -> io::Result<Self> {
        let (queue, batches) = async_channel::bounded(models.len().max(1));
        let mut pool = Self { queue, calls: Vec::new(), threads: Vec::with_capacity(models.len()) };
        for (number, model) in models.into_iter().enumerate() {
            let (batches, load, call) = (batches.clone(), load.clone(), CallStart::default());
            pool.calls.push(call.clone());
            let thread = thread::Builder::new().name(format!("embed-{number}"));
            pool.threads.push(thread.spawn(move || run_thread(&batches, model, &load, &call))?);
        }
        Ok(pool)
    }

    /// Number of batches that keep every instance busy and the queue full.
    pub(crate) fn max_pending(&self) -> usize {
        2 * self.threads.len()
    }

    /// Runs one batch on the next free instance and fails if its call takes longer than `limit`. The instance stays
    /// occupied until the model returns.
    pub(crate) async fn run(&self, texts: Vec<String>, limit: Duration) -> Vectors {
        let ((started, on_start), (reply, result)) = (oneshot::channel(), oneshot::channel());
        self.queue.send(Batch { texts, started, reply }).await.map_err(|_| EmbedError::Stopped)?;
        on_start.await.map_err(|_| EmbedError::Stopped)?;
        match timeout(limit, result).await {
            Ok(result) => result.map_err(|_| EmbedError::Stopped)?,
            Err(_) => Err(EmbedError::TimedOut(limit)),
        }
    }

    /// Duration of the longest running call.
    pub(crate) fn longest_call(&self) -> Option<Duration> {
        self.calls.iter().filter_map(|call| *locked(call)).map(|since| since.elapsed()).max()
    }
}

fn locked(call: &CallStart) -> MutexGuard<'_, Option<Instant>> {
    call.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for ModelPool {
    fn drop(&mut self) {
        self.queue.close();
        // Waits so that ONNX Runtime is not unloaded while an instance runs.
        for thread in mem::take(&mut self.threads) {
            let _ = thread.join();
        }
    }
}

fn run_thread(batches: &Receiver<Batch>, model: Model, load: &Load, call: &CallStart) {
    lower_priority();
    let mut model = Some(model);
    while let Ok(Batch { texts, started, reply }) = batches.recv_blocking() {
        // The caller may have been dropped while its batch waited.
        if started.send(()).is_ok() {
            *locked(call) = Some(Instant::now());
            let vectors = run_batch(&mut model, load, &texts);
            *locked(call) = None;
            let _ = reply.send(vectors);
        }
    }
}

/// Lowers the priority of the calling thread (on Linux only). Where cores are few, claims, reads and writes take moments,
/// and a search would otherwise wait for a batch.
#[cfg(target_os = "linux")]
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a model thread");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

/// Runs a batch. The model is taken out of its slot, so that a panic leaves the slot empty and the next batch loads the
/// model again.
fn run_batch(slot: &mut Option<Model>, load: &Load, texts: &[String]) -> Vectors {
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

    /// Model whose vectors are the lengths of the texts; special texts make it fail or panic.
    fn lengths() -> Model {
        Box::new(|texts| match texts.first().map(String::as_str) {
            Some("panic") => panic!("requested panic"),
            Some("fail") => Err(EmbedError::Model("requested error".into())),
            _ => Ok(texts.iter().map(|text| vec![text.len() as f32]).collect()),
        })
    }

    fn batch(text: &str) -> Vec<String> {
        vec![text.into()]
    }

    #[tokio::test]
    async fn an_error_fails_only_its_batch() {
        let load: Load = Arc::new(|| panic!("the model was loaded again"));
        let pool = ModelPool::start(vec![lengths()], &load).unwrap();
        assert!(matches!(pool.run(batch("fail"), Duration::MAX).await, Err(EmbedError::Model(_))));
        assert_eq!(pool.run(batch("four"), Duration::MAX).await.unwrap(), [[4.0]]);
    }

    #[tokio::test]
    async fn a_panic_fails_only_its_batch_and_the_model_is_reloaded() {
        let loads = Arc::new(AtomicUsize::new(0));
        let load: Load = Arc::new({
            let loads = loads.clone();
            move || match loads.fetch_add(1, Ordering::SeqCst) {
                0 => Err(LoadError::Dimensions { expected: 1, found: 2 }),
                1 => panic!("requested panic while loading"),
                _ => Ok(lengths()),
            }
        });
        let pool = ModelPool::start(vec![lengths()], &load).unwrap();
        assert!(matches!(pool.run(batch("panic"), Duration::MAX).await, Err(EmbedError::Panicked)));
        assert!(matches!(pool.run(batch("four"), Duration::MAX).await, Err(EmbedError::Reload(_))));
        assert!(matches!(pool.run(batch("four"), Duration::MAX).await, Err(EmbedError::Panicked)));
        assert_eq!(pool.run(batch("four"), Duration::MAX).await.unwrap(), [[4.0]]);
        assert_eq!(pool.run(batch("three"), Duration::MAX).await.unwrap(), [[5.0]]);
        assert_eq!(loads.load(Ordering::SeqCst), 3, "the model was reloaded without need");
    }

    /// Model that reports each batch when it starts and then blocks until it is released.
    fn gated() -> (Model, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (began, started) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let model: Model = Box::new(move |texts| {
            began.send(texts.concat()).unwrap();
            gate.recv().unwrap();
            Ok(vec![vec![1.0]; texts.len()])
        });
        (model, started, go)
    }

    #[tokio::test]
    async fn batches_of_a_dropped_caller_are_skipped() {
        let (model, started, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let pool = ModelPool::start(vec![model], &load).unwrap();

        let mut first = Box::pin(pool.run(batch("first"), Duration::MAX));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(started.recv().unwrap(), "first");
        let mut dropped = Box::pin(pool.run(batch("dropped"), Duration::MAX));
        assert!(futures::poll!(&mut dropped).is_pending(), "the batch is in the queue");
        drop(dropped);

        go.send(()).unwrap();
        first.await.unwrap();
        go.send(()).unwrap();
        pool.run(batch("last"), Duration::MAX).await.unwrap();
        assert_eq!(started.recv().unwrap(), "last");
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait() {
        let (model, started, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let pool = ModelPool::start(vec![model], &load).unwrap();

        let mut calls: Vec<_> =
            ["a", "b", "c"].map(|text| Box::pin(pool.run(batch(text), Duration::MAX))).into();
        assert!(futures::poll!(&mut calls[0]).is_pending());
        assert_eq!(started.recv().unwrap(), "a");
        assert!(futures::poll!(&mut calls[1]).is_pending());
        assert!(futures::poll!(&mut calls[2]).is_pending());
        assert_eq!(pool.queue.len(), 1, "one batch is queued; the third caller waits");

        for _ in 0..3 {
            go.send(()).unwrap();
        }
        for call in calls {
            call.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_hung_call_times_out_and_is_reported_until_it_returns() {
        let (model, started, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let pool = ModelPool::start(vec![model], &load).unwrap();
        assert_eq!(pool.longest_call(), None);

        let limit = Duration::from_millis(1);
        let hung = pool.run(batch("long"), limit).await;
        assert!(matches!(hung, Err(EmbedError::TimedOut(after)) if after == limit));
        assert_eq!(started.recv().unwrap(), "long");
        assert!(pool.longest_call().is_some());

        go.send(()).unwrap();
        while pool.longest_call().is_some() {
            thread::yield_now();
        }
        go.send(()).unwrap();
        pool.run(batch("next"), Duration::MAX).await.unwrap();
    }

    #[tokio::test]
    async fn waiting_in_the_queue_does_not_count_as_a_timeout() {
        let (model, started, go) = gated();
        let load: Load = Arc::new(|| Ok(lengths()));
        let pool = ModelPool::start(vec![model], &load).unwrap();
        let mut first = Box::pin(pool.run(batch("first"), Duration::MAX));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(started.recv().unwrap(), "first");

        let mut second = Box::pin(pool.run(batch("second"), Duration::ZERO));
        assert!(futures::poll!(&mut second).is_pending(), "its timeout has not started");
        go.send(()).unwrap();
        first.await.unwrap();
        assert!(second.await.unwrap_err().is_timed_out());
        assert_eq!(started.recv().unwrap(), "second");
        go.send(()).unwrap();
    }

    #[tokio::test]
    async fn dropping_the_pool_ends_its_threads() {
        let alive = Arc::new(());
        let model = || -> Model {
            let alive = alive.clone();
            Box::new(move |texts| {
                let _ = &alive;
                Ok(vec![vec![]; texts.len()])
            })
        };
        let load: Load = Arc::new(|| Ok(lengths()));
        let pool = ModelPool::start(vec![model(), model()], &load).unwrap();
        assert_eq!(Arc::strong_count(&alive), 3);
        drop(pool);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
