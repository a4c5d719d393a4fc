//! The model that the checker explores.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::config::Config;
use crate::content::Content;
use crate::drain::drain;
use crate::ids::SessionId;
use crate::index::Points;
use crate::invariants;
use crate::jobs::{self, JobKind, JobQueue, NewJob};
use crate::postgres::Session;
use crate::state::{Remaining, RepairProgress, State};
use crate::steps::{Change, Step, next_of_worker, take};

impl Model for Config {
    type State = State;
    type Action = Step;

    /// Starts with new sessions, and with the same sessions after all their work is done.
    fn init_states(&self) -> Vec<State> {
        let new = new_sessions(self);
        let drained = drain(&Self { mutation: None, ..self.clone() }, new.clone());
        std::iter::once(new).chain(drained).map(canonical).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for session in 0..state.sessions.len() {
            changes(state, session, steps);
            steps.extend([Step::Backfill(session), Step::Scan(session)]);
        }
        for job in &state.jobs {
            steps.extend([
                Step::Dispatch(job.id),
                Step::Requeue(job.id),
                Step::RequeueLost(job.id),
                Step::RescueExpired(job.id),
                Step::ExpireQueued(job.id),
                Step::Redeliver(job.id),
                Step::Claim(job.id),
            ]);
        }
        for worker in 0..state.workers.len() {
            steps.extend(next_of_worker(state, worker));
            steps.extend([
                Step::Fail(worker),
                Step::Release(worker),
                Step::Renew(worker),
                Step::ExpireLease(worker),
                Step::Crash(worker),
            ]);
        }
        steps.extend([
            Step::Push,
            Step::CrashScheduler,
            Step::LoseRedis,
            Step::LoseIndex,
            Step::Rebuild,
            Step::Repair,
        ]);
        steps.dedup();
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        take(self, state, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all()
    }
}

/// Creates the sessions and their first jobs.
fn new_sessions(config: &Config) -> State {
    let mut state = State {
        sessions: Vec::new(),
        jobs: Vec::new(),
        redis: Vec::new(),
        pushing: None,
        index: Some(Points::new()),
        workers: vec![None; config.workers],
        repair: RepairProgress::Idle,
        remaining: Remaining { changes: config.changes, faults: config.faults, repairs: config.repairs },
        claim_lost: false,
    };
    let new_job = |guild, session, target_revision| NewJob {
        guild,
        session,
        kind: JobKind::IndexSession,
        queue: JobQueue::Live,
        target_revision,
    };
    for (session, &guild) in config.sessions.iter().enumerate() {
        let revision = state.next_revision();
        state.sessions.push(Session {
            guild,
            content: config.content,
            revision,
            last_removal_revision: 0,
            indexed: None,
            awaits_backfill: false,
            dead_revision: 0,
        });
        jobs::enqueue(config, &mut state.jobs, new_job(guild, session, revision));
    }
    // A job of one guild that names another guild's session. The code never enqueues one.
    if let [first, .., last] = config.sessions.as_slice()
        && first != last
    {
        jobs::enqueue(config, &mut state.jobs, new_job(*last, 0, 1));
    }
    state
}

/// Lists the changes that producers can make to a session.
fn changes(state: &State, id: SessionId, steps: &mut Vec<Step>) {
    let Some(content) = state.sessions.get(id).map(|session| session.content) else { return };
    let edits: [(Content, &[Content]); 4] = [
        (Content::A, &[Content::B, Content::SMALL]),
        (Content::B, &[Content::A]),
        (Content::SMALL, &[Content::SMALLER, Content::A]),
        (Content::SMALLER, &[]),
    ];
    for (text, to) in edits.iter().filter(|(text, _)| content.includes(*text)) {
        let edited = |to: &Content| content.without(*text).with(*to);
        steps.extend(to.iter().map(|to| Step::Ingest(id, Change::Edit(edited(to)))));
        steps.push(Step::Delete(id, *text));
    }
    steps.push(match content.includes(Content::MORE) {
        true => Step::Delete(id, Content::MORE),
        false => Step::Ingest(id, Change::Add),
    });
    if !content.is_empty() {
        steps.push(Step::Ingest(id, Change::AddEmpty));
        steps.push(Step::Erase(id));
    }
}
