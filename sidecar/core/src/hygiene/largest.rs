//! The largest keys that a pass has met, a bounded number of them.

/// What people look at; each costs a MEMORY USAGE when they do.
const LARGEST_MAX: usize = 10;

/// Keys by size, largest first. Sizes are estimates: who shows them asks the engine.
#[derive(Clone, Debug, Default)]
pub struct Largest(Vec<(u64, Box<[u8]>)>);

impl Largest {
    pub fn note(&mut self, key: &[u8], bytes: u64) {
        let at = self.0.partition_point(|(other, _)| *other >= bytes);
        // A SCAN may meet a key twice.
        if at < LARGEST_MAX && !self.0.iter().any(|(_, known)| **known == *key) {
            self.0.insert(at, (bytes, Box::from(key)));
            self.0.truncate(LARGEST_MAX);
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(_, key)| &**key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_in_order_and_once() {
        let mut largest = Largest::default();
        for round in 0..2 {
            for bytes in 0..100_u64 {
                largest.note(format!("key-{bytes}").as_bytes(), (bytes * 37) % 100);
            }
            let sizes: Vec<u64> = largest.0.iter().map(|(bytes, _)| *bytes).collect();
            assert_eq!(sizes, (90..100).rev().collect::<Vec<u64>>(), "round {round}");
        }
        assert_eq!(largest.keys().count(), LARGEST_MAX);
    }
}
