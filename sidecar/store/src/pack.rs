//! zstd, one chunk at a time: what the engine holds of a packed body, and its plain bytes. What is unpacked is bounded
//! by the length that the record names, whatever the packed bytes say of themselves.

use std::{cell::RefCell, time::Instant};

use blobstore_sidecar_core::manifest::crc64;
use blobstore_sidecar_runtime::pool::Lease;
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    context::Inner,
    metrics::{CHUNKS_UNPACKED, PACK_SECONDS},
    record_entry::RecordEntry,
};

/// zstd's own default: twice the speed of level 5 for one or two hundredths more bytes.
const LEVEL: i32 = 3;

thread_local! {
    // A context costs 100 KB and more to set up: one for each thread that packs or unpacks.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// `None`: the library refuses, and the chunk stays as it is.
pub(crate) fn pack(plain: &[u8]) -> Option<Vec<u8>> {
    let began = Instant::now();
    let packed = PACKER.with_borrow_mut(|packer| {
        let mut ready = packer.take().or_else(|| Compressor::new(LEVEL).ok())?;
        let packed = ready.compress(plain).ok();
        *packer = Some(ready);
        packed
    });
    PACK_SECONDS.with_label_values(&["pack"]).inc_by(began.elapsed().as_secs_f64());
    packed
}

/// Fills `plain` exactly, or says that these are not its packed bytes.
pub(crate) fn unpack(packed: &[u8], plain: &mut [u8]) -> bool {
    let began = Instant::now();
    let len = UNPACKER.with_borrow_mut(|unpacker| {
        let mut ready = unpacker.take().or_else(|| Decompressor::new().ok())?;
        let len = ready.decompress_to_buffer(packed, plain).ok();
        *unpacker = Some(ready);
        len
    });
    PACK_SECONDS.with_label_values(&["unpack"]).inc_by(began.elapsed().as_secs_f64());
    len == Some(plain.len())
}

impl Inner {
    /// The plain bytes of chunk `index`, from what the engine gave for it. `None`: it is not what was written.
    pub(crate) fn opened(&self, entry: &RecordEntry, index: u32, mut stored: Lease) -> Option<Lease> {
        let (_, _, len) = entry.locate(index)?;
        let plain = if stored.as_ref().len() == len as usize {
            stored
        } else {
            // The packed bytes are gone before anybody waits again: the permit for the chunk covers the plain ones.
            let mut plain = self.pool.lease(len as usize, "chunk", stored.take_permit());
            if !unpack(stored.as_ref(), plain.as_mut()) {
                return None;
            }
            CHUNKS_UNPACKED.inc();
            plain
        };
        (Some(crc64(plain.as_ref())) == entry.crc(index)).then_some(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(text in "[a-d]{0,3000}") {
            let packed = pack(text.as_bytes()).expect("it packs");
            let mut plain = vec![0; text.len()];
            prop_assert!(unpack(&packed, &mut plain));
            prop_assert_eq!(plain, text.as_bytes());
        }

        #[test]
        fn packing_is_the_same_each_time(bytes in proptest::collection::vec(0_u8..4, 0..3000)) {
            prop_assert_eq!(pack(&bytes), pack(&bytes));
        }

        #[test]
        fn foreign_bytes_unpack_to_nothing_or_to_exactly_what_was_asked(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0_usize..500,
        ) {
            let mut plain = vec![0; len];
            let _ = unpack(&bytes, &mut plain);
            prop_assert_eq!(plain.len(), len);
        }
    }

    #[test]
    fn another_length_than_the_record_says_is_refused() {
        let packed = pack(&[7; 100_000]).expect("it packs");
        assert!(packed.len() < 100, "a bomb in the making");
        for len in [0, 99_999, 100_001] {
            assert!(!unpack(&packed, &mut vec![0; len]), "{len}");
        }
        assert!(!unpack(&packed[..packed.len() - 1], &mut [0; 100_000]));
        assert!(unpack(&packed, &mut [0; 100_000]), "a failure leaves nothing behind");
    }
}
