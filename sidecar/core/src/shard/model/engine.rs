//! An engine of the model: a log of writes, a replication link, a gate. Markers are entries too.

/// A marker's entry in the log; writes are numbered from 1.
pub(super) const MARKER: u32 = 0;

#[derive(Clone, Debug, Hash)]
pub(super) struct Engine {
    pub(super) run: u32,
    /// Started with a volume of an earlier run.
    pub(super) kept: bool,
    pub(super) log: Vec<u32>,
    /// Run that it is configured to follow; `None`: it is a primary.
    pub(super) follows: Option<u32>,
    /// Connected to what it follows.
    pub(super) linked: bool,
    /// It holds the right password for its primary.
    pub(super) auth: bool,
    /// The replication user is on.
    pub(super) gate: bool,
    /// Gossip: the highest wins.
    pub(super) config_epoch: u32,
    /// As primary: what each connected replica has acknowledged.
    pub(super) acked: Vec<(u32, u64)>,
}

impl Engine {
    /// A start: isolated, with what a volume kept.
    pub(super) fn start(run: u32, kept: Option<&Engine>) -> Self {
        Self {
            run,
            kept: kept.is_some(),
            log: kept.map(|old| old.log.clone()).unwrap_or_default(),
            follows: kept.and_then(|old| old.follows),
            linked: false,
            auth: true,
            gate: false,
            config_epoch: kept.map_or(0, |old| old.config_epoch),
            acked: Vec::new(),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn holds(&self, writes: &[u32]) -> Option<u32> {
        writes.iter().find(|write| !self.log.contains(write)).copied()
    }

    pub(super) fn break_link(&mut self) {
        self.linked = false;
        self.auth = false;
    }

    pub(super) fn assume(&mut self, config_epoch: u32) {
        self.config_epoch = config_epoch;
        self.follows = None;
        self.linked = false;
        self.auth = true;
        self.gate = true;
    }

    pub(super) fn close(&mut self) {
        self.gate = false;
        self.acked.clear();
    }

    pub(super) fn follow(&mut self, run: u32) {
        self.auth = true;
        if self.follows != Some(run) {
            self.follows = Some(run);
            self.linked = false;
            self.acked.clear();
        }
    }

    /// A connected replica of this primary hears of entries: one at a time, or all after a full resync.
    pub(super) fn pull_from(&mut self, primary: &mut Engine) -> bool {
        if self.follows != Some(primary.run) || !self.auth {
            self.linked = false;
            return false;
        }
        if !self.linked {
            // Refused when the gate is shut; a replica of a replica is not a thing here.
            if !primary.gate {
                return false;
            }
            self.linked = true;
            primary.acked.retain(|(run, _)| *run != self.run);
            primary.acked.push((self.run, 0));
        }
        if !primary.acked.iter().any(|(run, _)| *run == self.run) {
            // The primary cut the connection.
            self.linked = false;
            return false;
        }
        if primary.log.starts_with(&self.log) {
            // A few at a time: a replica lags, but not for ever.
            let next = primary.log.iter().skip(self.log.len()).take(3).copied().collect::<Vec<u32>>();
            self.log.extend(next);
        } else {
            self.log.clone_from(&primary.log);
        }
        true
    }
}
