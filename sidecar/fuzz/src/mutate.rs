//! Random changes to an input: bits, bytes, numbers, pieces of other seeds. The same seed number gives the same inputs.

use crate::INPUT_BYTES_MAX;

/// Changes to one input: more make noise that every parser refuses at once.
const CHANGES_MAX: u64 = 6;
/// Texts at which parsers go wrong.
const NASTY: &[&[u8]] = &[
    b"0",
    b"-1",
    b"00",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"%00",
    b"%",
    b"\"",
    b"..",
    b"{",
    b"[",
    b"*",
    b"\xf0\x9f\xa6\x80",
    b"$-1",
    b"*-1",
    b":",
    b"/",
    b"=",
    b";",
];

/// xorshift64*: good enough to choose, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`; 0 for an empty range.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> Option<&'a T> {
        from.get(self.below(from.len())).copied()
    }
}

/// A new input from the seeds.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=random.next() % CHANGES_MAX {
        change(&mut input, seeds, random);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let len = random.below(24).min(input.len() - at.min(input.len()));
    match random.next() % 9 {
        0 => {
            let bit = 1 << (random.next() % 8);
            if let Some(byte) = input.get_mut(at) {
                *byte ^= bit;
            }
        }
        1 => {
            let new = random.byte();
            if let Some(byte) = input.get_mut(at) {
                *byte = new;
            }
        }
        2 => input.insert(at, random.byte()),
        3 => drop(input.drain(at..at + len)),
        4 => input.truncate(at),
        5 => {
            let piece = random.pick(NASTY).unwrap_or_default();
            input.splice(at..at + len.min(piece.len()), piece.iter().copied());
        }
        6 => {
            let piece: Vec<u8> = input.get(at..at + len).unwrap_or_default().to_vec();
            for _ in 0..random.below(40) {
                input.splice(at..at, piece.iter().copied());
                if input.len() > INPUT_BYTES_MAX {
                    break;
                }
            }
        }
        7 => {
            let other = seeds.get(random.below(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len() + 1);
            let piece = other.get(from..(from + 1 + random.below(64)).min(other.len())).unwrap_or_default();
            input.splice(at..at, piece.iter().copied());
        }
        _ => {
            let value = [0_u64, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX][random.below(8)];
            let width = 1 << random.below(4);
            for (byte, new) in input.iter_mut().skip(at).zip(value.to_le_bytes()).take(width) {
                *byte = new;
            }
        }
    }
}
