//! Who reads which generation. A replaced generation is freed when its last reader leaves; one who takes too long
//! is cut. Where nobody reads an object, the engine may free a body of one chunk together with its record: a reader who
//! comes in between finds nothing, and asks for the record again.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use blobstore_sidecar_core::generation::Generation;
use tokio::sync::Notify;

use crate::{doomed::Doomed, metrics::READERS_CUT};

#[derive(Debug, Default)]
struct Reading {
    count: u32,
    cut: Arc<AtomicBool>,
    doomed: Option<(Doomed, Instant)>,
}

#[derive(Debug, Default)]
struct State {
    reading: HashMap<Generation, Reading>,
    /// Generations whose last reader has left.
    ready: Vec<Doomed>,
    /// Generations that are being freed: nobody may begin to read them.
    freeing: HashSet<Generation>,
}

/// Places where readers of objects are counted, 4 KiB of them. Two objects in one place only mean that a body goes by
/// the list of those to free, which takes one more trip.
const PLACES: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Readers {
    state: Arc<Mutex<State>>,
    /// Readers by object.
    objects: Arc<[AtomicU32; PLACES]>,
    wake: Arc<Notify>,
}

/// One reader of one generation.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Readers,
    generation: Generation,
    place: usize,
    cut: Arc<AtomicBool>,
}

fn place_of(object: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    usize::try_from(hasher.finish() % PLACES as u64).unwrap_or(0)
}

impl Readers {
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { state: Arc::default(), objects: Arc::new([const { AtomicU32::new(0) }; PLACES]), wake }
    }

    /// Somebody reads the object `bucket/name`, or one that is counted in the same place.
    pub(crate) fn any_of(&self, object: &str) -> bool {
        self.count(place_of(object)).is_some_and(|count| count.load(Ordering::Acquire) > 0)
    }

    fn count(&self, place: usize) -> Option<&AtomicU32> {
        self.objects.get(place)
    }

    /// Begins to read a body of `object`. `None`: it is being freed, the record that named it has been replaced.
    pub(crate) fn enter(&self, object: &str, generation: Generation) -> Option<Reader> {
        let mut state = self.lock();
        if state.freeing.contains(&generation) {
            return None;
        }
        let reading = state.reading.entry(generation).or_default();
        reading.count += 1;
        let place = place_of(object);
        if let Some(count) = self.count(place) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        Some(Reader { readers: self.clone(), generation, place, cut: Arc::clone(&reading.cut) })
    }

    /// Hands a generation over to be freed. `Some`: nobody reads it, free it now.
    pub(crate) fn doom(&self, doomed: Doomed) -> Option<Doomed> {
        let mut state = self.lock();
        match state.reading.get_mut(&doomed.generation) {
            None => {
                state.freeing.insert(doomed.generation);
                Some(doomed)
            }
            Some(reading) => {
                reading.doomed.get_or_insert((doomed, Instant::now()));
                None
            }
        }
    }

    /// It is gone: from now on a reader finds nothing, instead of a part.
    pub(crate) fn freed(&self, generation: Generation) {
        self.lock().freeing.remove(&generation);
    }

    /// Generations whose last reader left since the last call.
    pub(crate) fn take_ready(&self) -> Vec<Doomed> {
        std::mem::take(&mut self.lock().ready)
    }

    /// Cuts those who have delayed a free for longer than `grace`.
    pub(crate) fn cut_slow(&self, grace: Duration) {
        for reading in self.lock().reading.values() {
            let late = reading.doomed.as_ref().is_some_and(|(_, since)| since.elapsed() >= grace);
            if late && !reading.cut.swap(true, Ordering::Relaxed) {
                READERS_CUT.inc_by(u64::from(reading.count));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(count) = self.readers.count(self.place) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        let mut state = self.readers.lock();
        let Some(reading) = state.reading.get_mut(&self.generation) else { return };
        reading.count -= 1;
        if reading.count > 0 {
            return;
        }
        let doomed = state.reading.remove(&self.generation).and_then(|reading| reading.doomed);
        if let Some((doomed, _)) = doomed {
            state.freeing.insert(doomed.generation);
            state.ready.push(doomed);
            self.readers.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::partition::tag_of;

    use super::*;

    fn doomed() -> Doomed {
        let generation = Generation([1; 16]);
        Doomed { tag: tag_of(0, 1), generation, chunks: 1, last: 1, manifest: 1, parts_bytes: 0 }
    }

    #[test]
    fn the_last_reader_lets_go() {
        let readers = Readers::new(Arc::new(Notify::new()));
        assert!(readers.doom(doomed()).is_some(), "nobody reads");
        assert!(readers.enter("b/a", doomed().generation).is_none(), "it is being freed");
        readers.freed(doomed().generation);
        let (a, b) = (readers.enter("b/a", doomed().generation), readers.enter("b/a", doomed().generation));
        assert!(readers.doom(doomed()).is_none());
        drop(a);
        assert!(readers.take_ready().is_empty());
        drop(b);
        assert_eq!(readers.take_ready(), [doomed()]);
        assert!(readers.take_ready().is_empty());
    }

    #[test]
    fn an_object_is_read_until_its_last_reader_leaves() {
        let readers = Readers::new(Arc::new(Notify::new()));
        assert!(!readers.any_of("b/a"));
        let (old, new) =
            (readers.enter("b/a", Generation([1; 16])), readers.enter("b/a", Generation([2; 16])));
        assert!(readers.any_of("b/a"));
        let others = (0..8).filter(|number| readers.any_of(&format!("b/other-{number}"))).count();
        assert!(others < 8, "not everything lies in one place");
        drop(old);
        assert!(readers.any_of("b/a"));
        drop(new);
        assert!(!readers.any_of("b/a"));
    }

    #[test]
    fn slow_readers_are_cut() {
        let readers = Readers::new(Arc::new(Notify::new()));
        let reader = readers.enter("b/a", doomed().generation).expect("it is whole");
        readers.cut_slow(Duration::ZERO);
        assert!(!reader.is_cut(), "nothing waits for it");
        assert!(readers.doom(doomed()).is_none());
        readers.cut_slow(Duration::from_secs(3600));
        assert!(!reader.is_cut());
        readers.cut_slow(Duration::ZERO);
        assert!(reader.is_cut());
    }
}
