//! The engine's own evidence in words: what its memory is made of, and what a fragmentation ratio means. A ratio alone
//! means nothing: it is told apart by its cause and its bytes (leaks survey, 2.1 to 2.4).

use std::collections::BTreeMap;

use blobstore_sidecar_api::memory::{Fragmentation, FragmentationCause, LargeKey, MemoryPart};

use crate::hygiene::findings::human;
use crate::hygiene::info::EngineFigures;

/// Below this nobody should act on a ratio: the process itself is 6 to 11 MiB, and MEMORY DOCTOR uses 10 per part.
pub const FRAGMENTATION_BYTES_MIN: u64 = 64 << 20;
/// Parts that are worth a sentence.
const PART_PERCENT_MIN: u64 = 5;

/// Numbers of MEMORY STATS by name; those of a database are joined by dots (`db.0.overhead.hashtable.main`).
pub type Stats = BTreeMap<String, u64>;

const MEANINGS: [(&str, &str); 11] = [
    ("startup.allocated", "the empty engine"),
    ("replication.backlog", "what a replica that was away catches up from"),
    ("clients.slaves", "output for replicas"),
    ("clients.normal", "input and output of clients"),
    ("cluster.links", "links to the cluster's other engines"),
    ("aof.buffer", "writes on their way to the log"),
    ("lua.caches", "cached scripts"),
    ("functions.caches", "loaded functions"),
    ("overhead.db.hashtable.lut", "tables of keys"),
    ("overhead.db.hashtable.rehashing", "tables of keys that are growing"),
    ("dataset.bytes", "keys and values"),
];

/// What the allocated memory is made of, largest first; what MEMORY STATS leaves unexplained is a part of its own.
pub fn parts(stats: &Stats) -> Vec<MemoryPart> {
    let part = |name: &str, bytes, meaning: &str| MemoryPart {
        name: name.to_owned(),
        bytes,
        meaning: meaning.to_owned(),
    };
    let mut parts: Vec<MemoryPart> =
        MEANINGS.iter().filter_map(|(name, meaning)| Some(part(name, *stats.get(*name)?, meaning))).collect();
    // Older engines tell their tables by database only.
    if !stats.contains_key("overhead.db.hashtable.lut") {
        let tables: u64 = stats
            .iter()
            .filter(|(name, _)| name.contains(".overhead.hashtable."))
            .map(|(_, bytes)| bytes)
            .sum();
        parts.push(part("overhead.hashtable", tables, "tables of keys"));
    }
    let known: u64 = parts.iter().map(|part| part.bytes).sum();
    let total = stats.get("total.allocated").copied().unwrap_or(known);
    if total > known {
        parts.push(part("other", total - known, "what the engine counts nowhere"));
    }
    parts.retain(|part| part.bytes > 0);
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    parts
}

/// The ratio's band, and whose bytes they are.
pub fn fragmentation(engine: &EngineFigures) -> Fragmentation {
    let ratio = engine.rss as f64 / engine.used.max(1) as f64;
    let band = match ratio {
        ratio if ratio < 1.0 => "below 1",
        ratio if ratio <= 1.5 => "1 to 1.5",
        ratio if ratio <= 2.0 => "1.5 to 2",
        ratio if ratio <= 5.0 => "2 to 5",
        _ => "above 5",
    };
    let bytes =
        i64::try_from(engine.rss).unwrap_or(i64::MAX) - i64::try_from(engine.used).unwrap_or(i64::MAX);
    Fragmentation { ratio, band: band.to_owned(), bytes, cause: cause(engine, bytes) }
}

fn cause(engine: &EngineFigures, bytes: i64) -> FragmentationCause {
    if bytes.unsigned_abs() < FRAGMENTATION_BYTES_MIN {
        return FragmentationCause::Negligible;
    }
    if bytes < 0 {
        return FragmentationCause::NotResident;
    }
    let Some(pages) = engine.pages else { return FragmentationCause::Unknown };
    let parts = [
        (pages.active.saturating_sub(pages.allocated), FragmentationCause::Slabs),
        (pages.resident.saturating_sub(pages.active), FragmentationCause::FreedPages),
        (engine.rss.saturating_sub(pages.resident), FragmentationCause::Process),
    ];
    parts.into_iter().max_by_key(|(bytes, _)| *bytes).map_or(FragmentationCause::Unknown, |(_, cause)| cause)
}

fn sentence(fragmentation: &Fragmentation) -> String {
    let Fragmentation { ratio, band, bytes, cause } = fragmentation;
    let size = human(bytes.unsigned_abs() as f64);
    let why = match cause {
        FragmentationCause::Negligible => {
            format!("{size} are too few to act on, whatever the ratio: below {} it says nothing", {
                human(FRAGMENTATION_BYTES_MIN as f64)
            })
        }
        FragmentationCause::Slabs => {
            format!(
                "{size} lie mostly in slabs that are partly in use; a restart gives them back, a purge does not"
            )
        }
        FragmentationCause::FreedPages => {
            format!("{size} are mostly freed pages that the allocator keeps; a purge gives them back")
        }
        FragmentationCause::Process => {
            format!("{size} lie mostly outside the allocator: code, stacks, or memory shared with a fork")
        }
        FragmentationCause::NotResident => format!(
            "{size} are allocated and not resident: rounded-up values whose ends were never touched, which is \
             harmless, or swapped pages, which is not: look at the container's swap"
        ),
        FragmentationCause::Unknown => {
            format!("{size} have no known cause: this engine's allocator does not tell its pages")
        }
    };
    format!("fragmentation ratio {ratio:.2} ({band}): {why}")
}

/// Everything in sentences, the most important first.
pub fn explain(
    engine: &EngineFigures,
    limit: u64,
    parts: &[MemoryPart],
    fragmentation: &Fragmentation,
    largest: &[LargeKey],
) -> Vec<String> {
    let mut lines = vec![match limit {
        0 => format!("{} are allocated; the engine has no limit", human(engine.used as f64)),
        limit => format!(
            "{} are allocated, {} % of {}",
            human(engine.used as f64),
            engine.used.saturating_mul(100) / limit,
            human(limit as f64)
        ),
    }];
    for part in parts.iter().filter(|part| part.bytes * 100 >= engine.used * PART_PERCENT_MIN) {
        let percent = part.bytes * 100 / engine.used.max(1);
        lines.push(format!("{} ({percent} %): {} ({})", human(part.bytes as f64), part.meaning, part.name));
    }
    if engine.underflowed() {
        lines.push("the engine's own dataset figure is below zero: believe the other parts".to_owned());
    }
    lines.push(sentence(fragmentation));
    if engine.lazyfree_pending > 0 {
        lines.push(format!("{} deleted objects wait to be freed in the background", engine.lazyfree_pending));
    }
    if let Some(key) = largest.first() {
        lines.push(format!(
            "the largest key that is no chunk is {} with {} ({})",
            key.key,
            human(key.bytes as f64),
            key.family
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::info::Pages;

    const MIB: u64 = 1 << 20;

    fn engine(used: u64, pages: (u64, u64, u64), rss: u64) -> EngineFigures {
        let (allocated, active, resident) = pages;
        let pages = Pages { allocated: allocated * MIB, active: active * MIB, resident: resident * MIB };
        EngineFigures { used: used * MIB, rss: rss * MIB, pages: Some(pages), ..EngineFigures::default() }
    }

    #[test]
    fn a_ratio_is_told_apart_by_cause_and_bytes() {
        let cases = [
            // An empty engine: thirteen times nothing.
            (engine(1, (1, 1, 5), 13), "above 5", FragmentationCause::Negligible),
            (engine(1000, (1000, 1010, 1020), 1030), "1 to 1.5", FragmentationCause::Negligible),
            (engine(100, (100, 250, 260), 270), "2 to 5", FragmentationCause::Slabs),
            (engine(100, (100, 110, 170), 180), "1.5 to 2", FragmentationCause::FreedPages),
            (engine(5, (5, 6, 700), 718), "above 5", FragmentationCause::FreedPages),
            (engine(100, (100, 105, 110), 300), "2 to 5", FragmentationCause::Process),
            (engine(501, (501, 501, 505), 411), "below 1", FragmentationCause::NotResident),
        ];
        for (engine, band, cause) in cases {
            let found = fragmentation(&engine);
            assert_eq!((found.band.as_str(), found.cause), (band, cause), "{found:?}");
            assert!(sentence(&found).contains(band), "{}", sentence(&found));
        }
        let libc = EngineFigures { pages: None, ..engine(100, (0, 0, 0), 300) };
        assert_eq!(fragmentation(&libc).cause, FragmentationCause::Unknown);
    }

    #[test]
    fn parts_sum_up_to_what_is_allocated_and_the_rest_has_a_name() {
        let stats: Stats = [
            ("total.allocated", 1_000),
            ("startup.allocated", 100),
            ("clients.normal", 50),
            ("dataset.bytes", 600),
            ("db.0.overhead.hashtable.main", 70),
            ("db.0.overhead.hashtable.expires", 30),
            ("keys.count", 9),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
        let parts = parts(&stats);
        assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), 1_000);
        let named: Vec<(&str, u64)> = parts.iter().map(|part| (part.name.as_str(), part.bytes)).collect();
        assert_eq!(
            named,
            [
                ("dataset.bytes", 600),
                ("other", 150),
                ("startup.allocated", 100),
                ("overhead.hashtable", 100),
                ("clients.normal", 50)
            ]
        );
    }

    #[test]
    fn sentences_name_the_limit_the_parts_and_the_largest_key() {
        let engine = engine(100, (100, 250, 260), 270);
        let stats = Stats::from([
            ("total.allocated".to_owned(), 100 * MIB),
            ("dataset.bytes".to_owned(), 97 * MIB),
            ("clients.normal".to_owned(), 3 * MIB),
        ]);
        let key = LargeKey { key: "cart".to_owned(), bytes: 2 * MIB, family: "foreign".to_owned() };
        let lines = explain(&engine, 400 * MIB, &parts(&stats), &fragmentation(&engine), &[key]);
        assert_eq!(lines[0], "100.0 MiB are allocated, 25 % of 400.0 MiB");
        assert_eq!(lines[1], "97.0 MiB (97 %): keys and values (dataset.bytes)");
        assert!(
            lines[2].starts_with("fragmentation ratio 2.70 (2 to 5): 170.0 MiB lie mostly in slabs"),
            "{lines:?}"
        );
        assert_eq!(lines[3], "the largest key that is no chunk is cart with 2.0 MiB (foreign)");
        assert_eq!(lines.len(), 4, "small parts are not worth a sentence: {lines:?}");
    }
}
