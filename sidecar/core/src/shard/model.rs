//! The model test: the real machine in an abstract world of engines, a register, a network and clients, driven by
//! random interleavings with faults. After each step: no acknowledged write is lost, no stale read, no late
//! acknowledgement. After the faults stop: somebody serves again. Broken rules must be caught.

mod act;
mod engine;
mod faults;
mod world;

use std::collections::HashSet;

use crate::shard::types::Broken;
use world::{Shape, World};

/// Steps with faults in one run: enough for several failovers one after the other.
const STEPS: usize = 1_000;

#[derive(Default)]
struct Explored {
    runs: u64,
    states: HashSet<u64>,
    grants: u64,
    acks: u64,
    reads: u64,
    losses: u64,
}

/// One run. `Err` tells what broke, with the last steps.
fn run(seed: u64, shape: Shape, explored: &mut Explored) -> Result<(), String> {
    let mut world = World::new(seed, shape);
    world.form().map_err(|broke| world.story(&broke))?;
    for _ in 0..STEPS {
        world.random_step().map_err(|broke| world.story(&broke))?;
        explored.states.insert(world.fingerprint());
    }
    world.recover().map_err(|broke| world.story(&broke))?;
    explored.runs += 1;
    explored.grants += world.grants;
    explored.acks += world.acks;
    explored.reads += world.reads;
    explored.losses += world.losses;
    Ok(())
}

fn explore(seeds: std::ops::Range<u64>, shape: Shape) -> Explored {
    let mut explored = Explored::default();
    for seed in seeds {
        if let Err(story) = run(seed, shape, &mut explored) {
            panic!("seed {seed}: {story}");
        }
    }
    explored
}

fn report(name: &str, explored: &Explored) {
    let Explored { runs, states, grants, acks, reads, losses } = explored;
    let states = states.len();
    println!(
        "{name}: {runs} runs, {states} states, {grants} grants, {acks} acks, {reads} reads, {losses} losses"
    );
    assert!(*grants > *runs && *acks > *runs && *reads > *runs, "the runs must do something");
}

/// Seeds until the broken rule shows, at most as many as the sound protocol passes.
fn caught(broken: Broken, members: usize) {
    let shape = Shape { members, persistent: false, broken: Some(broken) };
    let found = (0..SEEDS).find(|seed| run(*seed, shape, &mut Explored::default()).is_err());
    println!("{broken:?}: caught by seed {found:?}");
    assert!(found.is_some(), "{broken:?} went unnoticed");
}

/// Runs per shape: together nearly 1e6 distinct states in twenty seconds.
const SEEDS: u64 = 3_000;

#[test]
fn two_members_lose_nothing() {
    report("2 members", &explore(0..SEEDS, Shape { members: 2, persistent: false, broken: None }));
}

#[test]
fn three_members_lose_nothing() {
    report("3 members", &explore(0..SEEDS, Shape { members: 3, persistent: false, broken: None }));
}

#[test]
fn persistent_members_lose_nothing() {
    let explored = explore(0..SEEDS, Shape { members: 2, persistent: true, broken: None });
    report("2 persistent members", &explored);
    assert_eq!(explored.losses, 0, "data on volumes is never given up");
}

#[test]
fn notices_acknowledging_without_every_member() {
    caught(Broken::AckWithoutAll, 3);
}

#[test]
fn notices_promoting_a_non_member() {
    caught(Broken::PromoteNonMember, 3);
}

#[test]
fn notices_skipping_the_read_window() {
    caught(Broken::SkipReadWindow, 2);
}

#[test]
fn notices_joining_without_catching_up() {
    caught(Broken::JoinWithoutCatchUp, 2);
}

#[test]
fn notices_tenure_on_an_unknown_swap() {
    caught(Broken::TenureOnUnknownSwap, 2);
}
