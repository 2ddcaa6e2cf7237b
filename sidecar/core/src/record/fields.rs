//! Little-endian fields at fixed offsets of a record's head.

use super::HEAD_BYTES;

pub(super) fn put(bytes: &mut [u8; HEAD_BYTES], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn get<const N: usize>(bytes: &[u8; HEAD_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

pub(super) fn get_u16(bytes: &[u8; HEAD_BYTES], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

pub(super) fn get_u32(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

pub(super) fn get_u64(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}
