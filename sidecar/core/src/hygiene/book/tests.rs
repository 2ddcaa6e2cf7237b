//! The book against a naive engine: a list of keys.

use proptest::prelude::*;

use super::*;

fn chunk_bytes(ledger: &Ledger, len: usize) -> u64 {
    ledger.model().string_key(40, len)
}

fn fresh() -> Ledger {
    let ledger = Ledger::new();
    ledger.begin_empty(ASSUMED);
    ledger
}

#[test]
fn a_new_ledger_is_not_rebuilt() {
    let snapshot = Ledger::new().snapshot();
    assert!(snapshot.not_rebuilt.is_some_and(|reason| reason.contains("not been rebuilt")));
}

#[test]
fn what_is_added_and_removed_leaves_nothing() {
    let ledger = fresh();
    for len in [1, 100, 262_080] {
        ledger.string_added(Family::Chunk, 40, len);
    }
    let names = (0..200).map(|index| format!("name-{index:040}")).collect::<Vec<_>>();
    names.iter().for_each(|name| ledger.member_added(Family::Names, b"x:{a}:b", name.len()));
    assert!(ledger.snapshot().stored > 262_080 + 200 * 50);
    for len in [1, 100, 262_080] {
        ledger.string_removed(Family::Chunk, 40, len);
    }
    names.iter().for_each(|name| ledger.member_removed(Family::Names, b"x:{a}:b", name.len()));
    assert_eq!(ledger.snapshot().stored, 0);
    assert!(ledger.collections().is_empty());
}

#[test]
fn in_flight_is_outside_what_is_stored() {
    let ledger = fresh();
    ledger.sending(262_080);
    let snapshot = ledger.snapshot();
    assert_eq!((snapshot.stored, snapshot.in_flight), (0, 262_144));
    ledger.sent_done(262_080);
    assert_eq!(ledger.snapshot().in_flight, 0);
}

#[test]
fn pending_free_is_part_of_what_is_stored() {
    let ledger = fresh();
    ledger.string_added(Family::Chunk, 40, 1_000);
    ledger.pending_free(900);
    let snapshot = ledger.snapshot();
    assert_eq!((snapshot.stored, snapshot.pending_free), (chunk_bytes(&ledger, 1_000), 900));
}

#[test]
fn a_quiet_pass_rebuilds_exactly() {
    let ledger = Ledger::new();
    let mark = ledger.mark();
    let mut seen = SeenBytes::default();
    seen.add(Family::Chunk, 5 * chunk_bytes(&ledger, 1_000));
    let done = ledger.reconcile(&mark, &seen);
    assert_eq!(done, Reconciled { uncertain_bytes: 0, drift_bytes: 0 });
    ledger.string_added(Family::Chunk, 40, 1_000);
    ledger.string_removed(Family::Chunk, 40, 1_000);
    ledger.string_removed(Family::Chunk, 40, 1_000);
    let snapshot = ledger.snapshot();
    assert_eq!((snapshot.stored, snapshot.not_rebuilt), (4 * chunk_bytes(&ledger, 1_000), None));
}

#[test]
fn a_pass_that_contradicts_the_book_is_a_drift() {
    let ledger = fresh();
    ledger.string_added(Family::Chunk, 40, 1_000);
    let done = ledger.reconcile(&ledger.mark(), &SeenBytes::default());
    assert_eq!(done.drift_bytes, chunk_bytes(&ledger, 1_000));
    assert_eq!((ledger.snapshot().stored, ledger.drifts()), (0, 1));
}

#[test]
fn a_collection_read_whole_replaces_the_book() {
    let ledger = Ledger::new();
    ledger.member_added(Family::Names, b"x:{a}:b", 20);
    let table_bytes = 5_000 * ASSUMED.table_member(Family::Names, 20);
    let known = Collection { members: 5_000, table_bytes, expanded: true, ..Default::default() };
    ledger.adopt(Family::Names, b"x:{a}:b", known);
    assert_eq!(ledger.snapshot().stored, ASSUMED.collection(Family::Names, 7, &known));
}

/// One step of a store that works while a pass runs.
#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Delete(prop::sample::Index),
    /// The scan reads so many more places of the table.
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_usize..300_000).prop_map(Step::Put),
        any::<prop::sample::Index>().prop_map(Step::Delete),
        (1_usize..5).prop_map(Step::Scan),
    ]
}

/// Places of the naive engine's table: a new key lands anywhere, before or behind the scan.
const PLACES: usize = 64;

proptest! {
    #[test]
    fn the_truth_lies_within_the_bounds_of_any_interleaving(
        before in prop::collection::vec(1_usize..300_000, 0..40),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let ledger = Ledger::new();
        let size = |len: usize| ASSUMED.string_key(40, len);
        let mut table: Vec<Vec<usize>> = vec![Vec::new(); PLACES];
        before.iter().enumerate().for_each(|(index, len)| table[index * 7 % PLACES].push(*len));
        let mark = ledger.mark();
        let (mut seen, mut place) = (SeenBytes::default(), 0);
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Put(len) => {
                    table[(index * 31 + len) % PLACES].push(*len);
                    ledger.string_added(Family::Chunk, 40, *len);
                }
                Step::Delete(pick) => {
                    let full: Vec<usize> = (0..PLACES).filter(|place| !table[*place].is_empty()).collect();
                    if !full.is_empty()
                        && let Some(len) = table[full[pick.index(full.len())]].pop()
                    {
                        ledger.string_removed(Family::Chunk, 40, len);
                    }
                }
                Step::Scan(places) => {
                    for lens in table.iter().skip(place).take(*places) {
                        lens.iter().for_each(|len| seen.add(Family::Chunk, size(*len)));
                    }
                    place += places;
                }
            }
        }
        table.iter().skip(place).flatten().for_each(|len| seen.add(Family::Chunk, size(*len)));
        let done = ledger.reconcile(&mark, &seen);
        let truth: u64 = table.iter().flatten().map(|len| size(*len)).sum();
        let off = ledger.snapshot().stored.abs_diff(truth);
        prop_assert!(off <= done.uncertain_bytes / 2 + 1, "off by {off} of {}", done.uncertain_bytes);

        // A second, quiet pass closes the gap.
        let mut again = SeenBytes::default();
        again.add(Family::Chunk, truth);
        let done = ledger.reconcile(&ledger.mark(), &again);
        prop_assert_eq!((done.uncertain_bytes, done.drift_bytes), (0, 0));
        prop_assert_eq!(ledger.snapshot().stored, truth);
    }
}
