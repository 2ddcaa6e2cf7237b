//! Slot bands: which of the 16384 slots a shard serves, and a key tag inside them.

use std::ops::Range;

/// Slots of a cluster, fixed by the engine.
pub const SLOTS: u32 = 16_384;

/// The slots of one shard, end exclusive.
pub type Band = Range<u16>;

/// Shard `shard` of `shards` serves an equal share of the slots.
pub fn band(shard: u32, shards: u32) -> Band {
    let shards = shards.clamp(1, SLOTS);
    let edge = |index: u32| u16::try_from(index.min(shards) * SLOTS / shards).unwrap_or(u16::MAX);
    edge(shard)..edge(shard + 1)
}

/// CRC16 XMODEM, modulo the number of slots: the engine's rule, for a key or a bare tag.
pub fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

/// The shortest decimal tag whose slot lies in the band. `None` only for an empty band.
pub fn tag_in(band: &Band) -> Option<String> {
    // Decimals hit a slot with even chance: this many miss a band of one slot with probability e^-64.
    (0..SLOTS * 64).map(|number| number.to_string()).find(|tag| band.contains(&slot(tag.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_meet_and_cover_every_slot() {
        for shards in [1, 2, 3, 7, 16] {
            let bands: Vec<Band> = (0..shards).map(|shard| band(shard, shards)).collect();
            assert_eq!(bands.first().map(|band| band.start), Some(0));
            assert_eq!(bands.last().map(|band| band.end), Some(16_384));
            assert!(bands.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn slots_equal_the_engines() {
        assert_eq!(slot(b"123456789"), 12_739);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn every_band_has_a_tag() {
        for shard in 0..16 {
            let band = band(shard, 16);
            let tag = tag_in(&band).expect("a tag");
            assert!(band.contains(&slot(tag.as_bytes())));
        }
    }
}
