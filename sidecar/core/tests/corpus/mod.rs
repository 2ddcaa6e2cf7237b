//! Synthetic days. A load gives the ledger's bytes over time, a fault what lies beside them; noise is seeded, so
//! every run sees the same days.

use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::hygiene::book::LedgerSnapshot;
use blobstore_sidecar_core::hygiene::info::{EngineFigures, Pages};
use blobstore_sidecar_core::hygiene::sample::{
    AuditFindings, Balances, CacheFigures, ClientFigures, Keyspace, PoolFigures, Sample, TaskFigures,
};

pub(crate) const STEP_SECONDS: u64 = 30;
const STEPS_PER_HOUR: f64 = 120.0;
pub(crate) const MIB: f64 = 1_048_576.0;
const LIMIT_MIB: f64 = 4_096.0;
/// A bulk delete, a BGSAVE and the like come at this hour.
const EVENT_HOUR: f64 = 6.0;

/// Shapes of the bytes that are stored rightfully, over hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    Flat,
    Growing { mib_per_hour: f64 },
    SawTooth,
    Daily,
    Bursts,
    Plateau,
    Steps,
}

pub(crate) const LOADS: [Load; 7] = [
    Load::Flat,
    Load::Growing { mib_per_hour: 20.0 },
    Load::SawTooth,
    Load::Daily,
    Load::Bursts,
    Load::Plateau,
    Load::Steps,
];

/// What a healthy engine does that looks bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Friend {
    None,
    /// Nearly empty: the fragmentation ratio reads 12.
    TinyData,
    /// 500 MiB go at once: the ratio reads 140 until pages decay.
    BulkDelete,
    /// Untouched tails of extents: RSS below used.
    PowersOfTwo,
    /// Fork children, with copied pages.
    Bgsave,
    SteadyUploads,
    MissedScrapes,
    Restart,
    Rehash,
    ClientBursts,
    LazyFree,
}

pub(crate) const FRIENDS: [Friend; 11] = [
    Friend::None,
    Friend::TinyData,
    Friend::BulkDelete,
    Friend::PowersOfTwo,
    Friend::Bgsave,
    Friend::SteadyUploads,
    Friend::MissedScrapes,
    Friend::Restart,
    Friend::Rehash,
    Friend::ClientBursts,
    Friend::LazyFree,
];

/// How the wrong bytes come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    Linear,
    Stairs,
    WithTraffic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) class: VerdictClass,
    pub(crate) onset_minutes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) steps: u64,
    load: Load,
    friend: Friend,
    base_mib: f64,
    /// Share of the ledger by which the model is off, and noise in MiB.
    model_error: f64,
    seed: u64,
    pub(crate) label: Option<Label>,
    shape: Shape,
    /// MiB (or items) per hour after the onset.
    rate: f64,
}

/// A number in 0..1 from a seed and a step (SplitMix64).
fn noise(seed: u64, step: u64) -> f64 {
    let mut z =
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn mib(value: f64) -> u64 {
    (value.max(0.0) * MIB) as u64
}

impl Series {
    fn hour(step: u64) -> f64 {
        step as f64 / STEPS_PER_HOUR
    }

    fn stored(&self, step: u64) -> f64 {
        let hour = Self::hour(step);
        let wave = |hours: f64| (hour / hours * std::f64::consts::TAU).sin();
        let base = self.base_mib;
        let shaped = match self.load {
            Load::Flat => base,
            Load::Growing { mib_per_hour } => base + hour * mib_per_hour,
            Load::SawTooth => base * (1.0 + 0.4 * (hour / 3.0).fract()),
            Load::Daily => base * (1.0 + 0.5 * wave(24.0)),
            Load::Bursts => base * (1.0 + 0.3 * f64::from(noise(self.seed, step / 40) > 0.8)),
            Load::Plateau => base * (1.0 + hour.min(4.0) / 4.0),
            Load::Steps => base * (1.0 + (hour / 6.0).floor() * 0.25),
        };
        match self.friend {
            Friend::TinyData => 1.0,
            Friend::BulkDelete if hour < EVENT_HOUR => shaped + 500.0,
            _ => shaped,
        }
    }

    fn faulty(&self, class: VerdictClass) -> bool {
        self.label.is_some_and(|label| label.class == class)
    }

    /// MiB or items that are wrong at `step`.
    fn fault(&self, step: u64) -> f64 {
        let Some(label) = self.label else { return 0.0 };
        let onset = label.onset_minutes as f64 / 60.0;
        let hours = (Self::hour(step) - onset).max(0.0);
        match self.shape {
            Shape::Linear => hours * self.rate,
            Shape::Stairs => (hours * 2.0).floor() / 2.0 * self.rate,
            Shape::WithTraffic => hours * self.rate * (1.0 + 0.3 * (hours * 1.3).sin()),
        }
    }

    fn fault_of(&self, class: VerdictClass, step: u64) -> f64 {
        if self.faulty(class) { self.fault(step) } else { 0.0 }
    }

    /// Values on their way, and how much of them the engine holds already.
    fn in_flight(&self, step: u64) -> (f64, f64) {
        let sent = match self.friend {
            Friend::SteadyUploads => 8.0 + 4.0 * noise(self.seed ^ 7, step),
            _ => 2.0 * noise(self.seed ^ 7, step),
        };
        (sent, sent * noise(self.seed ^ 9, step))
    }

    pub(crate) fn sample(&self, step: u64) -> Sample {
        if self.friend == Friend::MissedScrapes && noise(self.seed ^ 5, step / 3) > 0.9 {
            return Sample { balances: self.balances(step), limit: mib(LIMIT_MIB), ..Default::default() };
        }
        let stored = self.stored(step);
        let (sent, arrived) = self.in_flight(step);
        // Late client accounting: a third of a MiB, seldom more than one.
        let late = 0.3 * noise(self.seed ^ 11, step) + f64::from(noise(self.seed ^ 13, step) > 0.995);
        let orphans = self.fault_of(VerdictClass::Orphaned, step);
        let unexplained = self.fault_of(VerdictClass::Growing, step) + orphans;
        let held = stored * (1.0 + self.model_error) + arrived + late + unexplained;
        let ledger = LedgerSnapshot { stored: mib(stored), in_flight: mib(sent), ..Default::default() };
        Sample {
            engine: Some(self.engine(step, held)),
            keyspace: Some(Keyspace::Compared { engine_bytes: (held * MIB) as i64, ledger }),
            audit: Some(AuditFindings {
                orphan_bytes: mib(orphans),
                orphan_keys: (orphans * 4.0) as u64,
                ..Default::default()
            }),
            clients: self.clients(step),
            balances: self.balances(step),
            limit: mib(LIMIT_MIB),
        }
    }

    fn engine(&self, step: u64, held: f64) -> EngineFigures {
        let hour = Self::hour(step);
        let event = |minutes: f64| (EVENT_HOUR..EVENT_HOUR + minutes / 60.0).contains(&hour);
        let bursting = self.friend == Friend::ClientBursts && noise(self.seed ^ 17, step / 4) > 0.9;
        let clients = 2.0 + 45.0 * f64::from(bursting) + self.fault_of(VerdictClass::ClientBuffers, step);
        // Tables twice as large while one is rehashed: the engine says so itself.
        let tables = if self.friend == Friend::Rehash && event(3.0) { 24.0 } else { 8.0 };
        let used = 1.6 + tables + clients + held;
        let slab_waste = used * 0.02 + self.fault_of(VerdictClass::Fragmented, step);
        let dirty = if self.friend == Friend::BulkDelete && event(0.6) { 400.0 } else { 3.0 };
        let dirty = dirty + self.fault_of(VerdictClass::RetainedPages, step);
        let process = 7.0 + if self.friend == Friend::Bgsave && event(4.0) { held * 0.2 } else { 0.0 };
        let untouched = if self.friend == Friend::PowersOfTwo { used * 0.17 } else { 0.0 };
        let restarted = self.friend == Friend::Restart && hour >= EVENT_HOUR;
        let since = if restarted { hour - EVENT_HOUR } else { hour + 100.0 };
        EngineFigures {
            run_id: if restarted { "second" } else { "first" }.to_owned(),
            primary: true,
            uptime_seconds: (since * 3_600.0) as u64,
            forked: self.friend == Friend::Bgsave && event(4.0),
            used: mib(used),
            dataset: mib(held),
            clients: mib(clients),
            rss: mib(used + slab_waste + dirty + process - untouched),
            pages: Some(Pages {
                allocated: mib(used),
                active: mib(used + slab_waste),
                resident: mib(used + slab_waste + dirty),
            }),
            lazyfree_pending: u64::from(self.friend == Friend::LazyFree && event(2.0)) * 500,
            connections: 40,
            commands: step * 30_000,
            ..Default::default()
        }
    }

    fn clients(&self, step: u64) -> Vec<ClientFigures> {
        let bytes = self.fault_of(VerdictClass::ClientBuffers, step);
        let client = ClientFigures { bytes: mib(bytes), replies: (bytes * 8.0) as u64, ..Default::default() };
        Vec::from_iter((bytes > 0.0).then_some(client))
    }

    fn balances(&self, step: u64) -> Balances {
        let traffic = step * 100;
        let outstanding = (noise(self.seed ^ 19, step) * 20.0) as u64;
        let lost = self.fault_of(VerdictClass::PoolImbalance, step).ceil() as u64;
        let overrun = self.fault_of(VerdictClass::CacheOverrun, step);
        let busy = (noise(self.seed ^ 23, step) * 30.0) as u64;
        let leaked = self.fault_of(VerdictClass::TaskLeak, step) as u64;
        Balances {
            pool: Some(PoolFigures {
                taken: traffic + outstanding + lost,
                returned: traffic,
                outstanding,
                outstanding_bytes: outstanding * 262_144,
                oldest_lease_seconds: outstanding,
                oldest_lease: "put".to_owned(),
            }),
            caches: vec![CacheFigures {
                name: "chunk".to_owned(),
                bytes: mib(120.0 + overrun),
                bytes_max: mib(128.0),
                inserted: traffic + 500,
                removed: traffic,
                entries: 500,
            }],
            tasks: Some(TaskFigures { alive: 40 + busy + leaked, expected: 60, largest: "conn".to_owned() }),
        }
    }
}

fn series(name: String, seed: u64) -> Series {
    Series {
        name,
        steps: 24 * 120,
        load: Load::Flat,
        friend: Friend::None,
        base_mib: 150.0 + 750.0 * noise(seed, 0),
        model_error: 0.0014 * (noise(seed, 1) - 0.5),
        seed,
        label: None,
        shape: Shape::Linear,
        rate: 0.0,
    }
}

/// Every load with every false friend: 77 days.
pub(crate) fn healthy() -> Vec<Series> {
    let pairs = LOADS.into_iter().flat_map(|load| FRIENDS.into_iter().map(move |friend| (load, friend)));
    pairs
        .zip(1..)
        .map(|((load, friend), seed)| Series { load, friend, ..series(format!("{load:?} {friend:?}"), seed) })
        .collect()
}

/// Days whose data grows towards the limit.
pub(crate) fn growing_data() -> Vec<Series> {
    [60.0, 200.0, 400.0]
        .into_iter()
        .zip(500..)
        .map(|(mib_per_hour, seed)| {
            let load = Load::Growing { mib_per_hour };
            Series { load, base_mib: 3_000.0, steps: 4 * 120, ..series(format!("{load:?}"), seed) }
        })
        .collect()
}

/// A verdict, the rates to try (MiB or items per hour), and the shapes.
const FAULTS: [(VerdictClass, &[f64], &[Shape]); 8] = [
    (
        VerdictClass::Growing,
        &[4.0, 8.0, 16.0, 40.0, 120.0],
        &[Shape::Linear, Shape::Stairs, Shape::WithTraffic],
    ),
    (VerdictClass::Orphaned, &[4.0, 20.0, 100.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::ClientBuffers, &[20.0, 60.0, 200.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::RetainedPages, &[60.0, 200.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::Fragmented, &[400.0, 900.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::CacheOverrun, &[6.0, 30.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::PoolImbalance, &[1.0, 50.0], &[Shape::Linear, Shape::Stairs]),
    (VerdictClass::TaskLeak, &[150.0, 600.0], &[Shape::Linear, Shape::Stairs]),
];

/// Every fault at every rate and shape under three loads each: 129 half days with the onset at 3 hours.
pub(crate) fn leaky() -> Vec<Series> {
    let loads = [Load::Flat, Load::SawTooth, Load::Daily];
    let mut all = Vec::new();
    for (class, rates, shapes) in FAULTS {
        for ((load, rate), shape) in loads
            .into_iter()
            .flat_map(|load| rates.iter().map(move |rate| (load, *rate)))
            .flat_map(|pair| shapes.iter().map(move |shape| (pair, *shape)))
        {
            let seed = 1_000 + all.len() as u64;
            let name = format!("{class:?} {rate} per hour {shape:?} {load:?}");
            let label = Some(Label { class, onset_minutes: 180 });
            all.push(Series { load, shape, rate, label, steps: 12 * 120, ..series(name, seed) });
        }
    }
    all
}
