//! Runs the periodic tasks: knows their periods, wakes dispatch on notifications, and backs off during outages.

use std::time::Duration;

use chrono::Utc;
use guildex_queue::Queues;
use guildex_store::jobs;
use guildex_types::{JobQueue, Outage, OutageLog, RetryDelays, RetryPolicy};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::status::TaskReport;
use super::task::{PeriodicTask, TaskError};
use super::tasks::analyze::Analyze;
use super::tasks::clean_jobs::CleanJobs;
use super::tasks::dispatch::Dispatch;
use super::tasks::report::Report;
use super::tasks::requeue_lost::RequeueLost;
use super::tasks::rescue_leases::RescueLeases;
use super::tasks::retention::Retention;
use super::tasks::settle_erasures::SettleErasures;
use crate::config::SchedulerConfig;
use crate::ingest::Ingest;

/// Pauses between attempts during an outage.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(5));

/// Runs the periodic tasks of a deployment.
#[derive(Clone)]
pub struct Scheduler {
    pool: PgPool,
    queues: Queues,
    config: SchedulerConfig,
    retry: RetryPolicy,
    retention: Option<Ingest>,
    report: TaskReport,
    process: String,
}

impl Scheduler {
    /// Creates a scheduler that moves jobs from the database of `pool` to `queues`.
    pub fn new(pool: PgPool, queues: Queues, config: SchedulerConfig) -> Self {
        let (report, process) = (TaskReport::default(), "scheduler".to_owned());
        Self { pool, queues, config, retry: RetryPolicy::default(), retention: None, report, process }
    }

    /// Sets the delays before jobs whose lease expired run again.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Also deletes expired messages, if `ingest` is configured with a retention.
    pub fn with_retention(mut self, ingest: Ingest) -> Self {
        self.retention = ingest.config().retention.is_some().then_some(ingest);
        self
    }

    /// Sets the process name in the `scheduler_tasks` table.
    pub fn with_process(mut self, name: &str) -> Self {
        name.clone_into(&mut self.process);
        self
    }

    /// Returns the record of the last outcomes.
    pub fn report(&self) -> &TaskReport {
        &self.report
    }

    /// Runs until `stop`. During an outage the tasks are retried with backoff.
    pub async fn run(&self, stop: CancellationToken) {
        let (wake, woken) = mpsc::channel(64);
        let listener = tokio::spawn(listen(self.pool.clone(), wake));
        let jobs = Loop::new("dispatching", self.job_tasks(), &self.report);
        // Retention may take long and the report must show outages, so they run beside the others.
        let beside = |service, task| Loop::new(service, vec![task], &self.report).run(None, stop.clone());
        let retention = self.retention.clone().map(|ingest| Box::new(Retention::new(ingest, stop.clone())));
        let retention = async {
            if let Some(retention) = retention {
                beside("retention", retention as Box<dyn PeriodicTask>).await;
            }
        };
        let report = Box::new(Report::new(self.pool.clone(), self.report.clone(), self.process.clone()));
        tokio::join!(jobs.run(Some(woken), stop.clone()), retention, beside("task report", report));
        listener.abort();
    }

    /// Returns the tasks that run one after another, in this order.
    fn job_tasks(&self) -> Vec<Box<dyn PeriodicTask>> {
        let Self { pool, queues, config, .. } = self;
        let mut tasks: Vec<Box<dyn PeriodicTask>> = vec![
            Box::new(RescueLeases::new(pool.clone(), config.poll_interval, self.retry)),
            Box::new(RequeueLost::new(pool.clone(), queues.clone(), config.queue_timeout)),
        ];
        for queue in JobQueue::ALL {
            tasks.push(Box::new(Dispatch::new(pool.clone(), queues.clone(), config.clone(), queue)));
        }
        // Receipts are completed before the jobs that they wait for are deleted.
        tasks.push(Box::new(SettleErasures::new(pool.clone())));
        tasks.push(Box::new(CleanJobs::new(pool.clone(), queues.clone(), config.completed_retention)));
        tasks.push(Box::new(Analyze::new(pool.clone())));
        tasks
    }
}

/// A task and the time of its next run.
struct Scheduled {
    task: Box<dyn PeriodicTask>,
    due: Instant,
}

/// Runs some tasks one after another.
struct Loop<'a> {
    /// Name in logs.
    service: &'static str,
    tasks: Vec<Scheduled>,
    report: &'a TaskReport,
}

impl<'a> Loop<'a> {
    fn new(service: &'static str, tasks: Vec<Box<dyn PeriodicTask>>, report: &'a TaskReport) -> Self {
        let now = Instant::now();
        let schedule = |task: Box<dyn PeriodicTask>| Scheduled { due: now + task.first_delay(), task };
        Self { service, tasks: tasks.into_iter().map(schedule).collect(), report }
    }

    async fn run(mut self, mut woken: Option<mpsc::Receiver<Duration>>, stop: CancellationToken) {
        let log = OutageLog::new(self.service);
        let mut outage: Option<(Outage<'_>, RetryDelays)> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(delay) = recv(woken.as_mut()) => {
                    // New jobs are no reason to retry more often.
                    if outage.is_none() {
                        self.dispatch_by(Instant::now() + delay);
                    }
                    continue;
                }
                () = sleep_until(self.next_due()) => {}
            }
            match self.run_due().await {
                Ok(()) => {
                    if let Some((outage, _)) = outage.take() {
                        outage.recovered();
                    }
                }
                Err((task, error)) => {
                    let (_, pauses) = outage.get_or_insert_with(|| (log.begin(task, &error), RETRY.delays()));
                    let pause = pauses.next_delay();
                    self.postpone(Instant::now() + pause);
                }
            }
        }
    }

    /// Runs the due tasks in order, up to the first that fails.
    async fn run_due(&mut self) -> Result<(), (&'static str, TaskError)> {
        let round = Instant::now();
        for index in 0..self.tasks.len() {
            let Some(scheduled) = self.tasks.get_mut(index) else { break };
            if scheduled.due > Instant::now() {
                continue;
            }
            // Tasks of one period stay in one round, and so in order.
            scheduled.due = round + scheduled.task.period();
            let (started_at, started) = (Utc::now(), Instant::now());
            let run = scheduled.task.run().await;
            self.report.record(scheduled.task.name(), started_at, started.elapsed(), run.as_ref().err());
            let run = run.map_err(|error| (scheduled.task.name(), error))?;
            if let Some(delay) = run.next_in {
                scheduled.due = Instant::now() + delay;
            }
            if run.made_jobs_due {
                self.dispatch_by(Instant::now());
            }
        }
        Ok(())
    }

    fn next_due(&self) -> Instant {
        let times = self.tasks.iter().map(|scheduled| scheduled.due);
        times.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    /// Makes the tasks that dispatch run by `at`.
    fn dispatch_by(&mut self, at: Instant) {
        let dispatching = self.tasks.iter_mut().filter(|scheduled| scheduled.task.dispatches());
        dispatching.for_each(|scheduled| scheduled.due = scheduled.due.min(at));
    }

    /// Runs no task before `until`.
    fn postpone(&mut self, until: Instant) {
        self.tasks.iter_mut().for_each(|scheduled| scheduled.due = scheduled.due.max(until));
    }
}

/// Receives from an optional channel; without one it never returns.
async fn recv(woken: Option<&mut mpsc::Receiver<Duration>>) -> Option<Duration> {
    match woken {
        Some(woken) => woken.recv().await,
        None => std::future::pending().await,
    }
}

/// Forwards the notifications of new jobs. It may fail at any time, because polling finds the jobs, too.
async fn listen(pool: PgPool, wake: mpsc::Sender<Duration>) {
    let mut pauses = RETRY.delays();
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(jobs::NOTIFY_CHANNEL).await.is_ok()
        {
            while let Ok(notification) = listener.recv().await {
                pauses = RETRY.delays();
                let delay = notification.payload().parse().map_or(Duration::ZERO, Duration::from_millis);
                // A full channel already holds a wake-up.
                let _ = wake.try_send(delay);
            }
        }
        sleep(pauses.next_delay()).await;
    }
}
