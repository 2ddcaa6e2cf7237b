//! Marks of objects of which something is lost. They are in memory, where every write can lift one, and in `z:{t}` of
//! the engine, so that a restart or a failover does not forget them. The sweeper carries changes over.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::Family,
    partition::PartitionTag,
};
use blobstore_sidecar_runtime::authority::Tenure;
use redis::{cmd, pipe};

use crate::{
    Store, StoreError,
    context::{Inner, Target},
    metrics::OBJECTS_DAMAGED,
};

/// Marks kept. More damage than this is told by the metric and by the reads.
const MARKS_MAX: usize = 1000;
/// Partitions whose marks are read in one pipeline.
const PARTITIONS_AT_A_TIME: usize = 64;

/// An object of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedObject {
    /// `bucket/name`.
    pub object: String,
    pub generation: Generation,
}

#[derive(Debug, Default)]
struct State {
    /// By object: the bodies of its versions of which something is lost.
    marks: HashMap<Arc<str>, BTreeSet<Generation>>,
    /// All of them.
    count: usize,
    /// What the engine does not know yet: a mark, or (false) that there is none any more.
    unsaved: HashMap<(Arc<str>, Generation), bool>,
    /// Objects that were written or deleted since, with the number of the last doubt: what of them is still kept is
    /// looked up.
    doubted: HashMap<Arc<str>, u64>,
    /// Doubts so far.
    doubts: u64,
    /// Under which tenure the engine's marks were read.
    read_under: Option<Tenure>,
}

impl State {
    /// False: it is marked already, or there are too many.
    fn add(&mut self, object: &Arc<str>, generation: Generation) -> bool {
        let known = self.marks.get(object).is_some_and(|marks| marks.contains(&generation));
        if known || self.count >= MARKS_MAX {
            return false;
        }
        self.count += 1;
        self.marks.entry(Arc::clone(object)).or_default().insert(generation)
    }

    fn strike(&mut self, object: &str, generation: Generation) {
        let Some((object, mut marks)) = self.marks.remove_entry(object) else { return };
        if marks.remove(&generation) {
            self.count -= 1;
            self.unsaved.insert((Arc::clone(&object), generation), false);
        }
        if !marks.is_empty() {
            self.marks.insert(object, marks);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Damage(Mutex<State>);

impl Damage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        OBJECTS_DAMAGED.set(i64::try_from(state.marks.len()).unwrap_or(i64::MAX));
    }

    fn mark(&self, object: &Arc<str>, generation: Generation) {
        self.change(|state| {
            if state.add(object, generation) {
                state.unsaved.insert((Arc::clone(object), generation), true);
            }
        });
    }

    /// The object was written or deleted: marks of bodies that nothing names any more go with the sweeper's next look.
    pub(crate) fn doubt(&self, object: &str) {
        let mut state = self.lock();
        if let Some((object, _)) = state.marks.get_key_value(object) {
            let object = Arc::clone(object);
            state.doubts += 1;
            let number = state.doubts;
            state.doubted.insert(object, number);
        }
    }

    fn doubted(&self) -> Vec<(Arc<str>, u64)> {
        self.lock().doubted.iter().map(|(object, number)| (Arc::clone(object), *number)).collect()
    }

    /// What is kept of the object was looked up after this doubt. One that came meanwhile stays: it may be about a
    /// body that was still there.
    fn resolved(&self, object: &str, number: u64) {
        let mut state = self.lock();
        if state.doubted.get(object) == Some(&number) {
            state.doubted.remove(object);
        }
    }

    /// This body was found whole.
    pub(crate) fn lift(&self, object: &str, generation: Generation) {
        let marked = self.lock().marks.contains_key(object);
        if marked {
            self.change(|state| state.strike(object, generation));
        }
    }

    fn all(&self) -> Vec<DamagedObject> {
        let state = self.lock();
        let sure = state.marks.iter().filter(|(object, _)| !state.doubted.contains_key(*object));
        let each = |(object, marks): (&Arc<str>, &BTreeSet<Generation>)| {
            let of = |generation| DamagedObject { object: object.to_string(), generation };
            marks.iter().copied().map(of).collect::<Vec<_>>()
        };
        sure.flat_map(each).collect()
    }
}

impl Store {
    /// Objects that were found damaged and could not be repaired, until they are written anew or deleted.
    pub fn damaged(&self) -> Vec<DamagedObject> {
        self.inner.damage.all()
    }
}

impl Inner {
    pub(crate) fn mark_damaged(&self, object: &Arc<str>, generation: Generation) {
        tracing::error!(object = &**object, %generation, "a part of this object is lost");
        self.damage.mark(object, generation);
        self.wake.notify_one();
    }

    /// Writes changed marks into the engine. What it does not take is tried again.
    pub(crate) async fn save_marks(&self) -> Result<(), StoreError> {
        self.resolve_doubts().await?;
        let unsaved: Vec<((Arc<str>, Generation), bool)> =
            self.damage.lock().unsaved.iter().map(|(mark, is)| (mark.clone(), *is)).collect();
        for (mark, is) in unsaved {
            let target = self.marked(&mark.0).filter(|target| self.owned(target.tag.slot()).is_ok());
            if let Some(target) = target {
                self.save_mark(&target, &mark, is).await?;
            }
            let mut state = self.damage.lock();
            // Changed meanwhile: the next pass writes that.
            if state.unsaved.get(&mark) == Some(&is) {
                state.unsaved.remove(&mark);
            }
        }
        Ok(())
    }

    async fn resolve_doubts(&self) -> Result<(), StoreError> {
        for (object, number) in self.damage.doubted() {
            let marks = self.damage.lock().marks.get(&object).cloned().unwrap_or_default();
            for generation in marks {
                if !self.is_kept(&object, generation).await? {
                    self.damage.lift(&object, generation);
                }
            }
            self.damage.resolved(&object, number);
        }
        Ok(())
    }

    /// The current version, or one that is not, has this body.
    async fn is_kept(&self, object: &str, generation: Generation) -> Result<bool, StoreError> {
        let Some(target) = self.marked(object) else { return Ok(false) };
        Ok(self.record_names(&target.record(), generation).await?
            || self.record_names(&target.history(generation), generation).await?)
    }

    async fn save_mark(
        &self,
        target: &Target,
        (object, generation): &(Arc<str>, Generation),
        is: bool,
    ) -> Result<(), StoreError> {
        let list = key::damage(target.tag);
        let field = format!("{object}\0{generation}");
        let write = match is {
            true => cmd("HSET").arg(&list).arg(&field).arg("").to_owned(),
            false => cmd("HDEL").arg(&list).arg(&field).to_owned(),
        };
        let changed: u64 = self.meta.query("note damage", &write).await?;
        match is {
            _ if changed == 0 => {}
            true => self.ledger.member_added(Family::Damage, list.as_bytes(), field.len()),
            false => self.ledger.member_removed(Family::Damage, list.as_bytes(), field.len()),
        }
        Ok(())
    }

    /// Once under each tenure: the marks that are in the engine. One whose object is another by now is struck.
    pub(crate) async fn read_marks(&self) -> Result<(), StoreError> {
        let tenure = self.authority.tenure();
        if tenure.is_none() || self.damage.lock().read_under == tenure {
            return Ok(());
        }
        let tags: Vec<PartitionTag> = self.served().collect();
        for tags in tags.chunks(PARTITIONS_AT_A_TIME) {
            let mut read = pipe();
            for tag in tags {
                read.cmd("HKEYS").arg(key::damage(*tag));
            }
            let lists: Vec<Vec<String>> = self.meta.pipe("read marks of damage", &read).await?;
            for field in lists.into_iter().flatten().take(MARKS_MAX) {
                self.read_mark(&field).await?;
            }
        }
        self.damage.change(|state| state.read_under = tenure);
        Ok(())
    }

    async fn read_mark(&self, field: &str) -> Result<(), StoreError> {
        let (object, generation) = field.split_once('\0').unwrap_or((field, ""));
        let (object, generation) = (Arc::<str>::from(object), Generation::parse(generation));
        let kept = match generation {
            Some(generation) => self.is_kept(&object, generation).await?,
            None => false,
        };
        match (generation, self.marked(&object)) {
            (Some(generation), _) if kept => self.damage.change(|state| {
                state.add(&object, generation);
            }),
            (Some(generation), _) => self.damage.change(|state| {
                state.unsaved.entry((object, generation)).or_insert(false);
            }),
            // Nothing that was written here.
            (None, Some(target)) => {
                let strike = cmd("HDEL").arg(key::damage(target.tag)).arg(field).to_owned();
                let _gone: u64 = self.meta.query("strike a mark", &strike).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Where a marked object lives.
    fn marked(&self, object: &str) -> Option<Target> {
        let (bucket, name) = object.split_once('/')?;
        Some(self.target(&BucketName::parse(bucket).ok()?, &ObjectName::parse(name).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_that_comes_while_an_older_one_is_looked_up_stays() {
        let (damage, object) = (Damage::default(), Arc::<str>::from("b/a"));
        let generation = Generation([1; 16]);
        damage.mark(&object, generation);
        let marked = DamagedObject { object: "b/a".to_owned(), generation };
        assert_eq!(damage.all(), std::slice::from_ref(&marked));
        damage.doubt("b/a");
        assert_eq!(damage.all(), [], "not told while in doubt");
        let looked_up = damage.doubted();
        // The sweeper hears that the body is kept; before it goes on, the object is deleted.
        damage.doubt("b/a");
        for (object, number) in looked_up {
            damage.resolved(&object, number);
        }
        let again = damage.doubted();
        assert_eq!(again.len(), 1, "to be looked up again");
        assert_eq!(damage.all(), []);
        for (object, number) in again {
            damage.resolved(&object, number);
        }
        assert_eq!(damage.all(), [marked], "kept after all");
    }
}
