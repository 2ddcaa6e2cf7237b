//! Rolls against a simulated world: they end, whatever happens on the way, and never at the cost of the last copy.

use std::collections::BTreeSet;

use crate::support::world::World;
use crate::support::{self, valid};
use blobstore_operator_api::status::{RemedyResult, reason};
use proptest::prelude::*;

/// A roll of three pods takes about a minute of the world; faults cost more.
const SECONDS_MAX: i64 = 400;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    CrashPrimary,
    CrashNewest,
    DeletePrimary,
    Silence,
    OperatorDown,
    RefuseHandOver,
    RefuseEviction,
}

const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::CrashPrimary,
    Fault::CrashNewest,
    Fault::DeletePrimary,
    Fault::Silence,
    Fault::OperatorDown,
    Fault::RefuseHandOver,
    Fault::RefuseEviction,
];

fn spec(shards: u32, replicas: u32, hz: u32) -> String {
    format!("shards: {shards}\nreplicas: {replicas}\nengine: {{config: {{hz: \"{hz}\"}}}}")
}

/// Formed and quiet.
fn formed(shards: u32, replicas: u32) -> World {
    let mut world = World::new(valid(&spec(shards, replicas, 10)));
    while !world.settled() {
        assert!(world.now < SECONDS_MAX, "the store never formed: {:#?}", world.log);
        world.pass();
        world.tick();
    }
    world
}

/// One fault at a time: right after a promotion the record names one member, and losing that one as well is two.
fn bearable(world: &World) -> bool {
    world.records.get(&0).is_some_and(|record| record.in_sync.len() > 1) || world.pods.len() == 1
}

fn strike(world: &mut World, fault: Fault) {
    let primary = world.primary(0);
    let newest = world.pods.iter().max_by_key(|(_, pod)| pod.started).map(|(name, _)| name.clone());
    match fault {
        Fault::None | Fault::OperatorDown => {}
        Fault::CrashPrimary => primary.iter().for_each(|name| world.crash(name)),
        Fault::CrashNewest => newest.iter().for_each(|name| world.crash(name)),
        Fault::DeletePrimary => {
            if let Some(name) = primary {
                let alone = world.copies(0) == 1;
                if alone {
                    world.forgiven.insert(0);
                }
                world.stop(&name);
            }
        }
        Fault::Silence => {
            let until = world.now + 10;
            newest.iter().for_each(|name| world.pods.get_mut(name).expect("a pod").silent_until = until);
        }
        Fault::RefuseHandOver => world.refuse_hand_over_until = world.now + 25,
        Fault::RefuseEviction => world.refuse_eviction_until = world.now + 25,
    }
}

/// Runs until settled; checks every second. `copies_min`: what the shard must never fall below, faults aside.
fn run(world: &mut World, fault: Fault, strike_at: i64, copies_min: usize) -> i64 {
    let start = world.now;
    let mut struck = false;
    loop {
        let elapsed = world.now - start;
        assert!(elapsed < SECONDS_MAX, "{fault:?} at {strike_at}: not settled: {:#?}", world.log);
        if elapsed >= strike_at && !struck && strike_at >= 0 && bearable(world) {
            strike(world, fault);
            struck = true;
        }
        let down = fault == Fault::OperatorDown && (strike_at..strike_at + 15).contains(&elapsed);
        let plan = if down { None } else { Some(world.pass()) };
        if let Some(plan) = plan {
            let shrinks =
                plan.sizes.iter().filter(|(shard, size)| **size < world.observe().sets[shard].size).count();
            let disruptive = plan.actions.iter().filter(|action| action.disruptive()).count();
            assert!(shrinks + disruptive <= 1, "two disruptions at once: {plan:#?}");
        }
        world.tick();
        for shard in 0..world.store.shards {
            let copies = world.copies(shard);
            let least = if fault == Fault::None { copies_min } else { 1 };
            assert!(
                copies >= least || world.forgiven.contains(&shard),
                "{fault:?} at {strike_at}: shard {shard} has {copies} copies: {:#?}",
                world.log
            );
        }
        if world.settled() && elapsed > strike_at {
            return elapsed;
        }
    }
}

fn changed(world: &World, replicas: u32) -> World {
    let mut world = world.clone();
    world.store = valid(&spec(world.store.shards, replicas, 20));
    world.log.clear();
    world
}

#[test]
fn rolls_end_and_never_have_fewer_copies_than_asked_for() {
    for replicas in 0..=2 {
        for shards in [1, 3] {
            let mut world = changed(&formed(shards, replicas), replicas);
            let seconds = run(&mut world, Fault::None, -1, replicas as usize + 1);
            println!("{shards} shards, {replicas} replicas: rolled in {seconds} s of the world");
        }
    }
}

/// A leak in a pod, primary or replica: the ladder restarts it with the roll's surge, and no copy is ever missing.
#[test]
fn a_leaking_pod_is_restarted_with_every_copy_in_place() {
    for (replicas, ordinal) in [(1, 0), (1, 1), (2, 0), (2, 2)] {
        let mut world = formed(1, replicas);
        let pods = replicas as usize + 1;
        world.store = valid(&format!(
            "{}\nhygiene: {{mode: Auto, thresholds: {{sample: 15s}}}}",
            spec(1, replicas, 10)
        ));
        run(&mut world, Fault::None, -1, pods);
        let name = format!("media-0-{ordinal}");
        let leaking = world.pods[&name].uid.clone();
        world.leaking.insert(leaking.clone());
        let remedied = |world: &World| {
            world.status.remediation.as_ref().is_some_and(|status| {
                status.last_actions.first().is_some_and(|remedy| remedy.result == RemedyResult::Effective)
            })
        };
        let start = world.now;
        while !(remedied(&world) && world.settled()) {
            assert!(
                world.now - start < SECONDS_MAX,
                "{name}: {:#?} {:#?}",
                world.log,
                world.status.remediation
            );
            world.pass();
            world.tick();
            assert!(world.copies(0) >= pods, "{name}: {:#?}", world.log);
        }
        assert!(world.pods.values().all(|pod| pod.uid != leaking));
    }
}

/// Who takes over is the shard's own affair; a roll must end with the primary inside all the same.
#[test]
fn rolls_end_although_the_wished_successor_is_ignored() {
    for replicas in 0..=2 {
        let mut world = changed(&formed(1, replicas), replicas);
        world.wish_ignored = true;
        run(&mut world, Fault::None, -1, replicas as usize + 1);
    }
}

#[test]
fn rolls_end_whatever_fails_at_any_step() {
    for replicas in 0..=2 {
        let formed = formed(1, replicas);
        for fault in FAULTS {
            for strike_at in (0..48).step_by(4) {
                let mut world = changed(&formed, replicas);
                run(&mut world, fault, strike_at, 1);
            }
        }
    }
}

#[test]
fn a_bad_image_is_held_with_every_copy_in_place_and_its_repair_ends() {
    for replicas in 0..=2 {
        let mut world = changed(&formed(1, replicas), replicas);
        let bad = support::revisions(&world.store)[&0].clone();
        world.broken.insert(bad);
        for _ in 0..60 {
            world.pass();
            world.tick();
            assert_eq!(world.copies(0), replicas as usize + 1, "{:#?}", world.log);
        }
        assert!(!world.settled());
        world.store = valid(&spec(1, replicas, 30));
        run(&mut world, Fault::None, -1, replicas as usize + 1);
    }
}

#[test]
fn a_first_image_that_never_starts_is_repaired() {
    let mut world = World::new(valid(&spec(2, 1, 10)));
    world.broken.extend(support::revisions(&world.store).into_values());
    for _ in 0..20 {
        world.pass();
        world.tick();
    }
    world.store = valid(&spec(2, 1, 20));
    world.forgiven = BTreeSet::from([0, 1]);
    run(&mut world, Fault::None, -1, 1);
}

#[test]
fn no_room_to_surge_holds_the_roll_and_says_so() {
    for replicas in 0..=1 {
        let mut world = changed(&formed(1, replicas), replicas);
        world.room = replicas + 1;
        let mut plan = world.pass();
        for _ in 0..30 {
            world.tick();
            plan = world.pass();
            assert_eq!(world.copies(0), replicas as usize + 1);
        }
        assert!(plan.holds.iter().any(|hold| hold.reason == reason::NO_ROOM_TO_SURGE), "{:?}", plan.holds);
        assert!(!plan.actions.iter().any(blobstore_operator_core::action::Action::disruptive));
        let progressing = world.status.conditions.iter().find(|condition| condition.type_ == "Progressing");
        assert_eq!(progressing.map(|condition| condition.reason.as_str()), Some(reason::NO_ROOM_TO_SURGE));
        world.room = u32::MAX;
        run(&mut world, Fault::None, -1, replicas as usize + 1);
    }
}

#[test]
fn scaling_restarts_nothing_and_leaves_the_primary_inside() {
    let mut world = formed(1, 0);
    let before = world.pods["media-0-0"].uid.clone();
    for replicas in [2, 1, 0, 1] {
        world.store = valid(&spec(1, replicas, 10));
        run(&mut world, Fault::None, -1, 1);
        assert_eq!(world.pods.len(), replicas as usize + 1);
    }
    assert_eq!(world.pods["media-0-0"].uid, before, "{:#?}", world.log);
}

#[test]
fn a_steady_store_wants_nothing_and_writes_nothing() {
    let mut world = formed(3, 1);
    world.pass();
    let status = world.status.clone();
    for _ in 0..10 {
        world.tick();
        let plan = world.pass();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        assert!(plan.events.is_empty(), "{:?}", plan.events);
        assert_eq!(world.status, status);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Faults one after another, far enough apart for a copy to come back.
    #[test]
    fn survives_any_sequence_of_spaced_faults(
        replicas in 1_u32..=2,
        faults in proptest::collection::vec((0_usize..FAULTS.len(), 20_i64..40), 1..4),
    ) {
        let mut world = changed(&formed(1, replicas), replicas);
        for (fault, seconds) in faults {
            if bearable(&world) {
                strike(&mut world, FAULTS[fault]);
            }
            for _ in 0..seconds {
                let plan = world.pass();
                let disruptive = plan.actions.iter().filter(|action| action.disruptive()).count();
                prop_assert!(disruptive <= 1);
                world.tick();
                prop_assert!(world.copies(0) >= 1 || world.forgiven.contains(&0), "{:#?}", world.log);
            }
        }
        run(&mut world, Fault::None, -1, 1);
    }
}
