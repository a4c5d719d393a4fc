//! Explores all states within small bounds, and shows which guards of the code the invariants depend on.

use guildex_protocol::invariants::{DELETED, ENQUEUED, HIDDEN, INDEXED, ISOLATED, RETRIES_FOREVER};
use guildex_protocol::{Config, Content, Mutation};
use stateright::{Checker, HasDiscoveries, Model};

/// Explores all states and checks every invariant. `min_states` detects bounds that exclude what they should include.
fn assert_invariants(config: Config, min_states: usize) {
    let checker = config.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let explored = checker.unique_state_count();
    assert!(explored >= min_states, "only {explored} states were explored");
}

#[test]
fn invariants_hold_with_two_changes() {
    assert_invariants(Config { changes: 2, faults: 0, ..Config::default() }, 10_000);
}

#[test]
fn invariants_hold_with_one_change_and_two_faults() {
    assert_invariants(Config { changes: 1, faults: 2, ..Config::default() }, 100_000);
}

#[test]
fn invariants_hold_with_one_change_during_a_repair() {
    assert_invariants(Config { changes: 1, faults: 0, repairs: 1, ..Config::default() }, 5_000);
}

#[test]
fn invariants_hold_with_one_fault_during_a_repair() {
    assert_invariants(Config { changes: 0, faults: 1, repairs: 1, ..Config::default() }, 5_000);
}

#[test]
fn invariants_hold_if_one_failure_kills_a_job() {
    assert_invariants(Config { changes: 1, faults: 1, max_attempts: 1, ..Config::default() }, 10_000);
}

#[test]
fn invariants_hold_for_two_guilds() {
    let config = Config { sessions: vec![1, 2], workers: 1, changes: 1, faults: 0, ..Config::default() };
    assert_invariants(config, 5_000);
}

/// Applies a mutation, and returns a message if the invariant holds nevertheless.
fn survives(mutation: Mutation, invariant: &'static str, bounds: Config) -> Option<String> {
    let config = Config { mutation: Some(mutation), ..bounds };
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = config.checker().threads(2).finish_when(until).spawn_bfs().join();
    let violated = checker.discoveries();
    (!violated.contains_key(invariant))
        .then(|| format!("{mutation:?} violates {:?}, not {invariant:?}", violated.keys()))
}

fn changes(changes: u8) -> Config {
    Config { changes, faults: 0, ..Config::default() }
}

fn faults(changes: u8, faults: u8) -> Config {
    Config { changes, faults, ..Config::default() }
}

/// Lists each mutation with the invariant that it violates and the smallest bounds that show it.
#[test]
fn removing_a_guard_violates_an_invariant() {
    use Mutation as M;
    let two_chunks = Config { content: Content::A.with(Content::MORE), ..faults(1, 1) };
    let survivors = [
        (M::ClaimRunning, DELETED, faults(1, 1)),
        (M::EnqueueSeparately, ENQUEUED, faults(1, 1)),
        (M::KeepTargetRevision, INDEXED, changes(1)),
        (M::SkipTargetRevisionOfIneligible, DELETED, changes(2)),
        (M::CompleteBelowTarget, INDEXED, changes(1)),
        (M::DieBelowTarget, INDEXED, Config { max_attempts: 1, ..faults(1, 1) }),
        (M::RemovalMayDie, RETRIES_FOREVER, changes(2)),
        (M::NeverRescue, INDEXED, faults(0, 1)),
        (M::LoadAnyGuild, ISOLATED, Config { sessions: vec![1, 2], ..changes(0) }),
        (M::RewriteKeepsHash, INDEXED, changes(2)),
        (M::DeleteKeepsHash, INDEXED, changes(2)),
        (M::UpsertAnyRevision, INDEXED, faults(1, 1)),
        (M::DeleteAnyRevision, INDEXED, changes(0)),
        (M::DeleteNothing, DELETED, changes(1)),
        (M::RecordAnyRevision, INDEXED, faults(1, 1)),
        (M::RecordDespiteRemoval, INDEXED, faults(1, 1)),
        (M::RecordOverNewer, INDEXED, faults(1, 1)),
        (M::RecordKeepsHash, INDEXED, faults(1, 2)),
        (M::RecordAnyIndex, INDEXED, faults(0, 1)),
        (M::DeleteKeepsRevision, DELETED, changes(1)),
        (M::DeleteKeepsRemovalRevision, HIDDEN, changes(1)),
        (M::ShowAnyRevision, HIDDEN, two_chunks),
        (M::ShowRemoved, HIDDEN, changes(1)),
        (M::ReindexAtSessionRevision, INDEXED, faults(0, 1)),
        (M::InvalidateKeepsRevision, INDEXED, Config { repairs: 1, ..faults(1, 1) }),
        (M::RebuildKeepsRecords, INDEXED, faults(0, 1)),
    ]
    .into_iter()
    .filter_map(|(mutation, invariant, bounds)| survives(mutation, invariant, bounds));
    assert_eq!(survivors.collect::<Vec<_>>(), Vec::<String>::new());
}

/// These guards only prevent duplicate work and misattributed attempts, make removals independent of a model, or back
/// up another guard.
#[test]
fn some_guards_protect_no_invariant() {
    let mutations = [
        Mutation::IgnoreClaimToken,
        Mutation::RewriteAnyRevision,
        Mutation::DeleteWithoutRemoval,
        Mutation::ShowDeleted,
    ];
    for mutation in mutations {
        assert_invariants(Config { mutation: Some(mutation), ..faults(1, 1) }, 10_000);
    }
}
