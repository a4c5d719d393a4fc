//! What can happen next, each named as the function of the code that does it.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::ledger::{self, NewJob};
use crate::{At, Config, Content, Flaw, JobId, JobState, Kind, Outcome, SessionId, State};
use crate::{invariants, repair, worker};

/// One step of somebody, or a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `Ingest::messages`: the change and `enqueue` in one transaction.
    Messages(SessionId, Change),
    /// `Ingest::delete`: some of a session's messages.
    Delete(SessionId, Content),
    /// A member, channel or guild is forgotten, and all that the session holds.
    Forget(SessionId),
    /// `jobs::dispatch` commits.
    Dispatch(JobId),
    /// `Queues::push` of what was committed.
    Push,
    /// `jobs::take_back`: Redis has no room, or the worker that it was delivered to stops.
    TakeBack(JobId),
    /// `jobs::sweep` of one job.
    Sweep(JobId),
    /// The dispatcher ends between its commit and its push.
    DispatcherCrashes,
    /// A job waits in Redis until its lease is over.
    OutlastLease(JobId),
    /// Redis is empty.
    LoseRedis,
    /// `Dispatcher::take_back_lost`: Redis does not know what is queued.
    TakeBackLost(JobId),
    /// Redis delivers an id twice.
    Redeliver(JobId),
    /// `jobs::claim` of a delivery.
    Claim(JobId),
    /// `sessions::load`, and the plan.
    Load(usize),
    /// `sessions::begin_rewrite`; an unchanged session goes on to `record`.
    BeginRewrite(usize),
    /// `VectorIndex::upsert` of one point.
    Upsert(usize),
    /// `VectorIndex::delete_below`.
    DeleteBelow(usize),
    /// `sessions::record`.
    Record(usize),
    /// `jobs::complete`.
    Complete(usize),
    /// `jobs::fail`.
    Fail(usize),
    /// `jobs::give_back`.
    GiveBack(usize),
    /// `jobs::renew`.
    Renew(usize),
    /// The lease runs out under a worker, which goes on all the same.
    Freeze(usize),
    /// A worker ends where it is.
    Crash(usize),
    /// The index is gone.
    LoseIndex,
    /// `backfill::start_over`: a new index.
    StartOver,
    /// `backfill::run`, for one session.
    AskForMissing(SessionId),
    /// `repair` takes a number and looks at a session's points.
    Look(SessionId),
    /// `repair` goes on.
    Mend,
}

/// What a producer does to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The first message says something else.
    Edit(Content),
    /// Another message joins.
    Add,
    /// A message joins that says nothing: the content stays as it is.
    AddNothing,
}

impl Model for Config {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.beginnings().into_iter().map(canonical).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for session in 0..state.sessions.len() {
            changes(state, session, steps);
            steps.extend([Step::AskForMissing(session), Step::Look(session)]);
        }
        for job in &state.jobs {
            steps.extend([
                Step::Dispatch(job.id),
                Step::TakeBack(job.id),
                Step::TakeBackLost(job.id),
                Step::Sweep(job.id),
                Step::OutlastLease(job.id),
                Step::Redeliver(job.id),
                Step::Claim(job.id),
            ]);
        }
        for worker in 0..state.workers.len() {
            steps.extend(next_of(state, worker));
            steps.extend([
                Step::Fail(worker),
                Step::GiveBack(worker),
                Step::Renew(worker),
                Step::Freeze(worker),
                Step::Crash(worker),
            ]);
        }
        steps.extend([
            Step::Push,
            Step::DispatcherCrashes,
            Step::LoseRedis,
            Step::LoseIndex,
            Step::StartOver,
            Step::Mend,
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

/// The state after a step; none if the step cannot be taken.
pub(crate) fn take(config: &Config, state: &State, step: Step) -> Option<State> {
    let mut next = state.clone();
    step.take(config, &mut next)?;
    Some(canonical(next))
}

fn changes(state: &State, session: SessionId, steps: &mut Vec<Step>) {
    let Some(content) = state.sessions.get(session).map(|session| session.content) else { return };
    let edits: [(Content, &[Content]); 4] = [
        (Content::A, &[Content::B, Content::SMALL]),
        (Content::B, &[Content::A]),
        (Content::SMALL, &[Content::SMALLER, Content::A]),
        (Content::SMALLER, &[]),
    ];
    for (text, to) in edits.iter().filter(|(text, _)| content.holds(*text)) {
        let edited = |to: &Content| content.without(*text).with(*to);
        steps.extend(to.iter().map(|to| Step::Messages(session, Change::Edit(edited(to)))));
        steps.push(Step::Delete(session, *text));
    }
    steps.push(match content.holds(Content::MORE) {
        true => Step::Delete(session, Content::MORE),
        false => Step::Messages(session, Change::Add),
    });
    if !content.is_none() {
        steps.push(Step::Messages(session, Change::AddNothing));
        steps.push(Step::Forget(session));
    }
}

/// What a worker does next if nothing comes between.
pub(crate) fn next_of(state: &State, worker: usize) -> Option<Step> {
    let held = state.workers.get(worker)?.as_ref()?;
    Some(match held.at {
        At::Claimed if held.kind == Kind::Remove => Step::DeleteBelow(worker),
        At::Claimed => Step::Load(worker),
        At::Loaded(_) => Step::BeginRewrite(worker),
        At::Writing(..) => Step::Upsert(worker),
        At::Removing(_) => Step::DeleteBelow(worker),
        At::Recording(_) => Step::Record(worker),
        At::Ending(Outcome::Done(_)) => Step::Complete(worker),
        At::Ending(Outcome::LetGo) => Step::GiveBack(worker),
    })
}

impl Step {
    fn take(self, config: &Config, state: &mut State) -> Option<()> {
        match self {
            Self::Messages(session, Change::Edit(content)) => change(config, state, session, content, true)?,
            Self::Messages(session, Change::Add) => {
                let content = state.sessions.get(session)?.content.with(Content::MORE);
                change(config, state, session, content, false)?;
            }
            Self::Messages(session, Change::AddNothing) => {
                let content = state.sessions.get(session)?.content;
                change(config, state, session, content, false)?;
            }
            Self::Delete(session, text) => {
                let content = state.sessions.get(session)?.content.without(text);
                change(config, state, session, content, true)?;
                let of_session = state.sessions.get(session)?;
                let (guild, wanted) = (of_session.guild, of_session.revision);
                if !config.has(Flaw::HashKeptByRemoval) {
                    state.sessions.get_mut(session)?.void();
                }
                if !config.has(Flaw::NoRemoval) {
                    let new = NewJob { guild, session, kind: Kind::Remove, class: ledger::DELETE, wanted };
                    ledger::enqueue(config, &mut state.jobs, new);
                }
            }
            Self::Forget(session) => change(config, state, session, Content::NONE, true)?,
            Self::Dispatch(id) => {
                (state.pushing.is_none()).then_some(())?;
                state.job(id)?.dispatch()?;
                state.pushing = Some(id);
            }
            Self::Push => state.redis.push(state.pushing.take()?),
            Self::TakeBack(id) => {
                state.fault()?;
                if state.pushing == Some(id) {
                    state.pushing = None
                } else {
                    deliver(state, id)?
                }
                state.job(id)?.take_back();
            }
            Self::Sweep(id) => sweep(config, state, id)?,
            Self::DispatcherCrashes => {
                state.pushing.take()?;
                state.fault()?;
            }
            Self::OutlastLease(id) => {
                state.fault()?;
                let job = state.job(id).filter(|job| job.state == JobState::Queued && !job.lease_over)?;
                job.lease_over = true;
            }
            Self::LoseRedis => {
                (!state.redis.is_empty()).then_some(())?;
                state.fault()?;
                state.redis.clear();
            }
            Self::TakeBackLost(id) => {
                let is_known = state.redis.contains(&id);
                let lost = state.job(id).filter(|job| job.state == JobState::Queued && !is_known)?;
                lost.take_back();
            }
            Self::Redeliver(id) => {
                state.fault()?;
                state.job(id)?;
                state.redis.push(id);
            }
            Self::Claim(id) => claim(config, state, id)?,
            Self::Load(at)
            | Self::BeginRewrite(at)
            | Self::Upsert(at)
            | Self::DeleteBelow(at)
            | Self::Record(at) => {
                let mut held = (*state.workers.get(at)?)?;
                held.at = worker::go_on(config, state, &held)?;
                *state.workers.get_mut(at)? = Some(held);
            }
            Self::Complete(_) | Self::Fail(_) | Self::GiveBack(_) => self.end(config, state)?,
            Self::Renew(at) => held(config, state, at).filter(|job| job.lease_over)?.lease_over = false,
            Self::Freeze(at) => {
                state.fault()?;
                held(config, state, at).filter(|job| !job.lease_over)?.lease_over = true;
            }
            Self::Crash(at) => {
                state.workers.get(at)?.as_ref()?;
                state.fault()?;
                if let Some(job) = held(config, state, at) {
                    job.lease_over = true;
                }
                *state.workers.get_mut(at)? = None;
            }
            Self::LoseIndex => {
                state.fault()?;
                state.index.take()?;
            }
            Self::StartOver => start_over(config, state)?,
            Self::AskForMissing(session) => {
                let asked = state.sessions.get_mut(session).filter(|session| session.is_asked_for)?;
                asked.is_asked_for = false;
                if asked.is_missing() {
                    ask_anew(config, state, session)?;
                }
            }
            Self::Look(session) => {
                state.left.repairs = state.left.repairs.checked_sub(1)?;
                repair::look(state, session)?;
            }
            Self::Mend => repair::go_on(config, state)?,
        }
        Some(())
    }

    /// The last step of an attempt.
    fn end(self, config: &Config, state: &mut State) -> Option<()> {
        let (Self::Complete(at) | Self::Fail(at) | Self::GiveBack(at)) = self else { return None };
        let of_worker = (*state.workers.get(at)?)?;
        match (self, of_worker.at) {
            (Self::Complete(_), At::Ending(Outcome::Done(_))) => {}
            (Self::GiveBack(_), At::Ending(Outcome::LetGo)) => {}
            // It stops, and begins nothing more.
            (Self::GiveBack(_), At::Claimed | At::Loaded(_)) => state.fault()?,
            (Self::Fail(_), At::Ending(_)) | (Self::GiveBack(_) | Self::Complete(_), _) => return None,
            (_, _) => state.fault()?,
        }
        if let Some(job) = held(config, state, at) {
            let (is_done, is_dead) = match (self, of_worker.at) {
                (Self::Complete(_), At::Ending(Outcome::Done(reached))) => {
                    (job.complete(config, reached), false)
                }
                (Self::Fail(_), _) => (false, job.fail(config)),
                _ => {
                    job.give_back();
                    (false, false)
                }
            };
            bury(state, of_worker.id, is_done, is_dead)?;
        }
        *state.workers.get_mut(at)? = None;
        Some(())
    }
}

/// The job in a worker's hands, if its claim holds.
fn held<'a>(config: &Config, state: &'a mut State, worker: usize) -> Option<&'a mut ledger::Job> {
    let held = (*state.workers.get(worker)?)?;
    state.job(held.id).filter(|job| job.is_held(config, held.token))
}

fn bury(state: &mut State, id: JobId, is_done: bool, is_dead: bool) -> Option<()> {
    if is_dead {
        let job = state.job(id)?.clone();
        let of_job = state.sessions.get_mut(job.session).filter(|session| session.guild == job.guild);
        if let Some(session) = of_job {
            session.dead = session.dead.max(job.claimed);
        }
    }
    if is_done || is_dead {
        state.jobs.retain(|job| job.id != id);
    }
    Some(())
}

fn change(
    config: &Config,
    state: &mut State,
    session: SessionId,
    content: Content,
    removed: bool,
) -> Option<()> {
    state.left.changes = state.left.changes.checked_sub(1)?;
    let before = state.sessions.get(session)?;
    let (guild, was_eligible) = (before.guild, before.content.is_eligible());
    let wanted = state.touch(config, session, content, removed)?;
    if config.has(Flaw::JobApart) && state.fault().is_some() {
        return Some(());
    }
    // `Ingest::job_for`.
    let (kind, class) = match (content.is_eligible(), was_eligible) {
        (true, _) => (Kind::Index, ledger::LIVE),
        (false, true) => (Kind::Delete, ledger::DELETE),
        (false, false) => {
            if !config.has(Flaw::SmallNotRaised) {
                ledger::raise(&mut state.jobs, guild, session, wanted);
            }
            return Some(());
        }
    };
    ledger::enqueue(config, &mut state.jobs, NewJob { guild, session, kind, class, wanted });
    Some(())
}

/// Asks for a session that the books lack, at a number of its own: a job that runs already, and may have told the books
/// before they were struck, runs once more.
pub(crate) fn ask_anew(config: &Config, state: &mut State, session: SessionId) -> Option<()> {
    let number = state.next_revision();
    let of_session = state.sessions.get(session)?;
    let wanted = if config.has(Flaw::NoNumberOfItsOwn) { of_session.revision } else { number };
    let new = NewJob { guild: of_session.guild, session, kind: Kind::Index, class: ledger::BACKFILL, wanted };
    ledger::enqueue(config, &mut state.jobs, new);
    Some(())
}

fn deliver(state: &mut State, id: JobId) -> Option<()> {
    let place = state.redis.iter().position(|queued| *queued == id)?;
    state.redis.remove(place);
    Some(())
}

/// Any free worker; what cannot be claimed is dropped.
fn claim(config: &Config, state: &mut State, id: JobId) -> Option<()> {
    let free = state.workers.iter().position(Option::is_none)?;
    deliver(state, id)?;
    let token = state.jobs.iter().map(|job| job.token).max()? + 1;
    let job = state.job(id)?;
    if job.claim(config, token).is_some() {
        let ledger::Job { guild, session, kind, wanted, .. } = *job;
        let held =
            worker::Held { id, token, guild, session, kind, wanted, index_replaced: false, at: At::Claimed };
        *state.workers.get_mut(free)? = Some(held);
    }
    Some(())
}

fn sweep(config: &Config, state: &mut State, id: JobId) -> Option<()> {
    let is_in_redis = state.redis.contains(&id) || state.pushing == Some(id);
    let job = state.job(id)?;
    // Nobody has it, so its time will come.
    let is_lost = job.state == JobState::Queued && !is_in_redis;
    ((job.lease_over || is_lost) && !config.has(Flaw::NoSweeper)).then_some(())?;
    let token = job.token;
    let is_dead = job.sweep(config);
    state.lapsed |= token != 0 && state.workers.iter().flatten().any(|held| held.token == token);
    bury(state, id, false, is_dead)
}

fn start_over(config: &Config, state: &mut State) -> Option<()> {
    state.index.is_none().then_some(())?;
    state.index = Some(crate::index::Points::new());
    state.workers.iter_mut().flatten().for_each(|held| held.index_replaced = true);
    if config.has(Flaw::BooksOfLostIndex) {
        return Some(());
    }
    let any_lost = state.sessions.iter().any(|session| session.book.is_some());
    for session in &mut state.sessions {
        session.book = None;
        session.is_asked_for |= any_lost;
    }
    Some(())
}
