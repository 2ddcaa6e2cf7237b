//! Marks of objects of which something is lost. They are in memory, where every write can lift one, and in `z:{t}` of
//! the engine, so that a restart or a failover does not forget them. The sweeper carries changes over.

use std::{
    collections::HashMap,
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
    marks: HashMap<Arc<str>, Generation>,
    /// What the engine does not know yet: a mark, or that there is none any more.
    unsaved: HashMap<Arc<str>, Option<Generation>>,
    /// Under which tenure the engine's marks were read.
    read_under: Option<Tenure>,
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
            let room = state.marks.len() < MARKS_MAX || state.marks.contains_key(object);
            if room && state.marks.insert(Arc::clone(object), generation) != Some(generation) {
                state.unsaved.insert(Arc::clone(object), Some(generation));
            }
        });
    }

    /// The object was written anew, deleted, or found whole.
    pub(crate) fn lift(&self, object: &str) {
        let marked = self.lock().marks.contains_key(object);
        if marked {
            self.change(|state| {
                if let Some((object, _)) = state.marks.remove_entry(object) {
                    state.unsaved.insert(object, None);
                }
            });
        }
    }

    fn all(&self) -> Vec<DamagedObject> {
        let state = self.lock();
        let object = |(object, generation): (&Arc<str>, &Generation)| DamagedObject {
            object: object.to_string(),
            generation: *generation,
        };
        state.marks.iter().map(object).collect()
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
        let unsaved: Vec<(Arc<str>, Option<Generation>)> =
            self.damage.lock().unsaved.iter().map(|(object, mark)| (Arc::clone(object), *mark)).collect();
        for (object, mark) in unsaved {
            if let Some(target) = self.marked(&object).filter(|target| self.owned(target.tag.slot()).is_ok())
            {
                self.save_mark(&target, &object, mark).await?;
            }
            let mut state = self.damage.lock();
            // Changed meanwhile: the next pass writes that.
            if state.unsaved.get(&object) == Some(&mark) {
                state.unsaved.remove(&object);
            }
        }
        Ok(())
    }

    async fn save_mark(
        &self,
        target: &Target,
        object: &str,
        mark: Option<Generation>,
    ) -> Result<(), StoreError> {
        let list = key::damage(target.tag);
        let member_len = object.len() + size_of::<[u8; 32]>();
        let write = match mark {
            Some(generation) => cmd("HSET").arg(&list).arg(object).arg(generation.to_string()).to_owned(),
            None => cmd("HDEL").arg(&list).arg(object).to_owned(),
        };
        let changed: u64 = self.meta.query("note damage", &write).await?;
        match mark {
            Some(_) if changed > 0 => {
                self.ledger.member_added(Family::Damage, list.as_bytes(), member_len);
            }
            None if changed > 0 => {
                self.ledger.member_removed(Family::Damage, list.as_bytes(), member_len);
            }
            _ => {}
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
                read.cmd("HGETALL").arg(key::damage(*tag));
            }
            let lists: Vec<HashMap<String, String>> = self.meta.pipe("read marks of damage", &read).await?;
            for (object, generation) in lists.into_iter().flatten().take(MARKS_MAX) {
                self.read_mark(Arc::from(object), Generation::parse(&generation)).await?;
            }
        }
        self.damage.change(|state| state.read_under = tenure);
        Ok(())
    }

    async fn read_mark(&self, object: Arc<str>, generation: Option<Generation>) -> Result<(), StoreError> {
        let current = match (self.marked(&object), generation) {
            // The current version, or one that is not.
            (Some(target), Some(generation)) => {
                self.record_names(&target.record(), generation).await?
                    || self.record_names(&target.history(generation), generation).await?
            }
            _ => false,
        };
        self.damage.change(|state| match generation.filter(|_| current) {
            Some(generation) => {
                state.marks.entry(object).or_insert(generation);
            }
            None => {
                if !state.marks.contains_key(&object) {
                    state.unsaved.insert(object, None);
                }
            }
        });
        Ok(())
    }

    /// Where a marked object lives.
    fn marked(&self, object: &str) -> Option<Target> {
        let (bucket, name) = object.split_once('/')?;
        Some(self.target(&BucketName::parse(bucket).ok()?, &ObjectName::parse(name).ok()?))
    }
}
