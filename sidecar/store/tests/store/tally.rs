//! A ledger that adds up, so that a test can compare it with the engine.

use std::{collections::BTreeMap, sync::Mutex};

use blobstore_sidecar_core::ledger::{Family, LedgerSink};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    strings: Mutex<BTreeMap<Family, (i64, i64)>>,
    members: Mutex<BTreeMap<(Family, Vec<u8>), i64>>,
    sending: Mutex<i64>,
    pending: Mutex<i64>,
}

impl Tally {
    /// Keys and value bytes of a family.
    pub(crate) fn strings(&self, family: Family) -> (i64, i64) {
        self.strings.lock().expect("no panic").get(&family).copied().unwrap_or_default()
    }
    pub(crate) fn members(&self, family: Family) -> i64 {
        let members = self.members.lock().expect("no panic");
        members.iter().filter(|((of, _), _)| *of == family).map(|(_, count)| count).sum()
    }
    pub(crate) fn sending_now(&self) -> i64 {
        *self.sending.lock().expect("no panic")
    }
    pub(crate) fn pending(&self) -> i64 {
        *self.pending.lock().expect("no panic")
    }
    fn string(&self, family: Family, keys: i64, len: usize) {
        let mut strings = self.strings.lock().expect("no panic");
        let entry = strings.entry(family).or_default();
        entry.0 += keys;
        entry.1 += keys * i64::try_from(len).expect("small");
    }
}

impl LedgerSink for Tally {
    fn sending(&self, len: u64) {
        *self.sending.lock().expect("no panic") += i64::try_from(len).expect("small");
    }
    fn sent_done(&self, len: u64) {
        *self.sending.lock().expect("no panic") -= i64::try_from(len).expect("small");
    }
    fn string_added(&self, family: Family, _: usize, len: usize) {
        self.string(family, 1, len);
    }
    fn string_removed(&self, family: Family, _: usize, len: usize) {
        self.string(family, -1, len);
    }
    fn member_added(&self, family: Family, key: &[u8], _: usize) {
        *self.members.lock().expect("no panic").entry((family, key.to_vec())).or_default() += 1;
    }
    fn member_removed(&self, family: Family, key: &[u8], _: usize) {
        *self.members.lock().expect("no panic").entry((family, key.to_vec())).or_default() -= 1;
    }
    fn collection_removed(&self, family: Family, key: &[u8]) {
        self.members.lock().expect("no panic").remove(&(family, key.to_vec()));
    }
    fn pending_free(&self, bytes: i64) {
        *self.pending.lock().expect("no panic") += bytes;
    }
}
