//! Everything that can happen within these bounds, and whether each guard of the code is needed.

use guildex_protocol::invariants::{APART, GONE, HIDDEN, IN_STEP, NEVER_DIES, OWED};
use guildex_protocol::{Config, Content, Flaw};
use stateright::{Checker, HasDiscoveries, Model};

/// Looks through all states; at least `states` of them, or the bounds are not what they seem.
fn holds(config: Config, states: usize) {
    let checker = config.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let seen = checker.unique_state_count();
    assert!(seen >= states, "only {seen} states were seen");
}

#[test]
fn the_invariants_hold_whatever_comes_between_two_changes() {
    holds(Config { changes: 2, faults: 0, ..Config::default() }, 10_000);
}

#[test]
fn the_invariants_hold_with_a_change_and_two_faults() {
    holds(Config { changes: 1, faults: 2, ..Config::default() }, 100_000);
}

#[test]
fn the_invariants_hold_with_a_change_beside_a_repair() {
    holds(Config { changes: 1, faults: 0, repairs: 1, ..Config::default() }, 5_000);
}

#[test]
fn the_invariants_hold_with_a_fault_beside_a_repair() {
    holds(Config { changes: 0, faults: 1, repairs: 1, ..Config::default() }, 5_000);
}

#[test]
fn the_invariants_hold_where_one_failure_kills_a_job() {
    holds(Config { changes: 1, faults: 1, max_attempts: 1, ..Config::default() }, 10_000);
}

#[test]
fn the_invariants_hold_for_two_guilds() {
    holds(Config { sessions: vec![1, 2], workers: 1, changes: 1, faults: 0, ..Config::default() }, 5_000);
}

/// Takes a guard away, and says what is wrong if the property holds all the same.
fn broken(flaw: Flaw, property: &'static str, bounds: Config) -> Option<String> {
    let config = Config { flaw: Some(flaw), ..bounds };
    let until = HasDiscoveries::AnyOf([property].into());
    let checker = config.checker().threads(2).finish_when(until).spawn_bfs().join();
    let found = checker.discoveries();
    (!found.contains_key(property))
        .then(|| format!("{flaw:?} does not break {property:?}, but {:?}", found.keys()))
}

fn changes(changes: u8) -> Config {
    Config { changes, faults: 0, ..Config::default() }
}

fn faults(changes: u8, faults: u8) -> Config {
    Config { changes, faults, ..Config::default() }
}

/// Each guard, the invariant that does not hold without it, and the bounds within which that shows.
#[test]
fn without_a_guard_an_invariant_breaks() {
    let unbroken = [
        (Flaw::ClaimOfRunning, GONE, faults(1, 1)),
        (Flaw::JobApart, OWED, faults(1, 1)),
        (Flaw::WantedNotRaised, IN_STEP, changes(1)),
        (Flaw::SmallNotRaised, GONE, changes(2)),
        (Flaw::NoAgain, IN_STEP, changes(1)),
        (Flaw::DiesWithNewer, IN_STEP, Config { max_attempts: 1, ..faults(1, 1) }),
        (Flaw::RemovalForgotten, NEVER_DIES, changes(2)),
        (Flaw::NoSweeper, IN_STEP, faults(0, 1)),
        (Flaw::LoadOfAnyGuild, APART, Config { sessions: vec![1, 2], ..changes(0) }),
        (Flaw::HashKept, IN_STEP, changes(2)),
        (Flaw::HashKeptByRemoval, IN_STEP, changes(2)),
        (Flaw::UpsertOfAnyRevision, IN_STEP, faults(1, 1)),
        (Flaw::DeleteOfAnyRevision, IN_STEP, changes(0)),
        (Flaw::NothingDeletedBelow, GONE, changes(1)),
        (Flaw::RecordOfAnyRevision, IN_STEP, faults(1, 1)),
        (Flaw::RecordOfRemoved, IN_STEP, faults(1, 1)),
        (Flaw::RecordOfKnown, IN_STEP, faults(1, 1)),
        (Flaw::HashOfOlder, IN_STEP, faults(1, 2)),
        (Flaw::RecordOfAnyIndex, IN_STEP, faults(0, 1)),
        (Flaw::TombstoneWithoutRevision, GONE, changes(1)),
        (Flaw::RemovalNotNoted, HIDDEN, changes(1)),
        (Flaw::ShowsAnyPoint, HIDDEN, Config { content: Content::A.with(Content::MORE), ..faults(1, 1) }),
        (Flaw::ShowsRemoved, HIDDEN, changes(1)),
        (Flaw::NoNumberOfItsOwn, IN_STEP, faults(0, 1)),
        (Flaw::BooksOfLostIndex, IN_STEP, faults(0, 1)),
    ]
    .into_iter()
    .filter_map(|(flaw, property, bounds)| broken(flaw, property, bounds));
    assert_eq!(unbroken.collect::<Vec<_>>(), Vec::<String>::new());
}

/// What these guards keep is no invariant: without them work is done twice, attempts are spent in vain, a removal
/// waits for a model, or another guard alone stands.
#[test]
fn without_these_guards_the_invariants_hold_all_the_same() {
    for flaw in [Flaw::NoToken, Flaw::RewriteOfAnyRevision, Flaw::NoRemoval, Flaw::ShowsDead] {
        holds(Config { flaw: Some(flaw), ..faults(1, 1) }, 10_000);
    }
}
