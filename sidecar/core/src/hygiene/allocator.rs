//! What the engine's allocator makes of a request: the size class that `used_memory` counts.

/// The allocators an engine may run on, as far as sizes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// `quantum` is 8 in the copy that Redis and Valkey bundle, 16 in a distribution's own.
    Jemalloc { quantum: u64 },
    /// glibc: chunks of 16 bytes with 8 bytes of header; no figures for pages, so fewer verdicts.
    Libc,
}

/// Four classes lie in each doubling of jemalloc's table.
const CLASSES_PER_DOUBLING: u64 = 4;
/// jemalloc's smallest class, below the quantum.
const TINY: u64 = 8;
/// glibc: the smallest usable size of a chunk.
const LIBC_MIN: u64 = 24;

impl Allocator {
    /// From INFO's `mem_allocator` and, for jemalloc, the text of `MEMORY MALLOC-STATS`.
    pub fn parse(mem_allocator: &str, malloc_stats: &str) -> Option<Self> {
        if mem_allocator.starts_with("libc") {
            return Some(Self::Libc);
        }
        if !mem_allocator.starts_with("jemalloc") {
            return None;
        }
        let line = malloc_stats.lines().find_map(|line| line.trim().strip_prefix("Quantum size:"))?;
        let quantum: u64 = line.trim().parse().ok()?;
        matches!(quantum, 8 | 16).then_some(Self::Jemalloc { quantum })
    }

    /// Bytes that `used_memory` grows by for a request of `size` bytes.
    pub fn class(self, size: u64) -> u64 {
        match self {
            Self::Libc => ((size + 8).next_multiple_of(16) - 8).max(LIBC_MIN),
            Self::Jemalloc { .. } if size <= TINY => TINY,
            Self::Jemalloc { quantum } if size <= quantum * 2 * CLASSES_PER_DOUBLING => {
                size.next_multiple_of(quantum)
            }
            Self::Jemalloc { .. } => {
                // Between 2^n and 2^(n+1) the step is a quarter of 2^n.
                let below = (size - 1).ilog2();
                size.next_multiple_of((1 << below) / CLASSES_PER_DOUBLING)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(quantum: u64, sizes: &[(u64, u64)]) {
        for (size, class) in sizes {
            assert_eq!(Allocator::Jemalloc { quantum }.class(*size), *class, "size {size} quantum {quantum}");
        }
    }

    #[test]
    fn classes_of_a_distribution_build() {
        check(
            16,
            &[(1, 8), (9, 16), (24, 32), (40, 48), (128, 128), (129, 160), (257, 320), (65_545, 81_920)],
        );
        check(16, &[(262_090, 262_144), (262_154, 327_680), (16_384, 16_384), (16_385, 20_480)]);
    }

    #[test]
    fn classes_of_a_bundled_build() {
        check(8, &[(24, 24), (40, 40), (64, 64), (65, 80), (129, 160), (262_090, 262_144)]);
    }

    #[test]
    fn glibc_rounds_to_sixteen_less_its_header() {
        for (size, class) in [(1, 24), (24, 24), (25, 40), (100, 104)] {
            assert_eq!(Allocator::Libc.class(size), class);
        }
    }

    #[test]
    fn quantum_is_read_from_the_statistics() {
        let stats = "Version: 5.3.0\nQuantum size: 16\nPage size: 4096\n";
        assert_eq!(Allocator::parse("jemalloc-5.3.0", stats), Some(Allocator::Jemalloc { quantum: 16 }));
        assert_eq!(Allocator::parse("jemalloc-5.3.0", ""), None);
        assert_eq!(Allocator::parse("libc", ""), Some(Allocator::Libc));
    }
}
