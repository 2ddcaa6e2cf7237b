//! The engine's protocol (RESP2), as much as the bulk lane needs: commands out, small replies in.

use bytes::Bytes;

use crate::scripts::Script;

/// Deepest nesting of a reply. EXEC of a script that returns an array is 2.
const DEPTH_MAX: u8 = 4;
/// Longest array of a reply on a lane.
const ITEMS_MAX: i64 = 1024;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole reply and its length.
    Whole(Reply, usize),
    More,
    Garbage,
}

/// Reads one reply from the front of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut at = 0;
    match parse_at(bytes, &mut at, DEPTH_MAX) {
        Ok(Some(reply)) => Parsed::Whole(reply, at),
        Ok(None) => Parsed::More,
        Err(()) => Parsed::Garbage,
    }
}

fn parse_at(bytes: &[u8], at: &mut usize, depth: u8) -> Result<Option<Reply>, ()> {
    let Some((kind, line)) = line(bytes, at)? else { return Ok(None) };
    let text = || String::from_utf8_lossy(line).into_owned();
    match kind {
        b'+' => Ok(Some(Reply::Status(text()))),
        b'-' => Ok(Some(Reply::Error(text()))),
        b':' => Ok(Some(Reply::Int(number(line)?))),
        b'_' => Ok(Some(Reply::Nil)),
        b'$' => match number(line)? {
            -1 => Ok(Some(Reply::Nil)),
            len => {
                let len = usize::try_from(len).map_err(|_| ())?;
                let end = at.checked_add(len).ok_or(())?;
                let Some(value) = bytes.get(*at..end) else { return Ok(None) };
                let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
                if tail != b"\r\n" {
                    return Err(());
                }
                *at = end + 2;
                Ok(Some(Reply::Bulk(value.to_vec())))
            }
        },
        b'*' => match number(line)? {
            -1 => Ok(Some(Reply::Nil)),
            count if (0..=ITEMS_MAX).contains(&count) && depth > 0 => {
                let mut items = Vec::new();
                for _ in 0..count {
                    let Some(item) = parse_at(bytes, at, depth - 1)? else { return Ok(None) };
                    items.push(item);
                }
                Ok(Some(Reply::Array(items)))
            }
            _ => Err(()),
        },
        _ => Err(()),
    }
}

/// Longest line we accept: an error with its message.
const LINE_BYTES_MAX: usize = 4096;

type Line<'a> = (u8, &'a [u8]);

fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<Line<'a>>, ()> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
        return if rest.len() > LINE_BYTES_MAX { Err(()) } else { Ok(None) };
    };
    let (kind, line) = rest.get(..end).and_then(<[u8]>::split_first).ok_or(())?;
    *at += end + 2;
    Ok(Some((*kind, line)))
}

fn number(line: &[u8]) -> Result<i64, ()> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(())
}

/// The header of a bulk reply: `Ok(None)` if it is not complete, `Err` if the reply is something else.
pub(crate) fn bulk_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, ()> {
    let mut at = 0;
    match line(bytes, &mut at)? {
        None if bytes.first().is_none_or(|kind| *kind == b'$') => Ok(None),
        Some((b'$', len)) => usize::try_from(number(len)?).map(|len| Some((len, at))).map_err(|_| ()),
        _ => Err(()),
    }
}

/// What a small upload sends beside its payload: three keys with their values' headers, and a commit of twenty words.
const SCRATCH_BYTES: usize = 1_536;

/// Most that a lane keeps for its next commands.
const SCRATCH_BYTES_KEPT: usize = 4 << 10;

#[derive(Debug)]
pub(crate) enum Part {
    /// A run of `scratch`.
    Own(std::ops::Range<usize>),
    Shared(Bytes),
}

/// Commands on their way out: headers in one small buffer, payload as the caller's own `Bytes`.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) scratch: Vec<u8>,
    pub(crate) parts: Vec<Part>,
    /// Replies that will come.
    pub(crate) replies: u32,
    own_from: usize,
}

impl Outgoing {
    /// Writes into what another has left.
    pub(crate) fn reusing(scratch: Vec<u8>) -> Self {
        Self { scratch, ..Self::default() }
    }

    /// Room for the next, without what was written.
    pub(crate) fn left(self) -> Vec<u8> {
        let mut scratch = self.scratch;
        scratch.clear();
        if scratch.capacity() > SCRATCH_BYTES_KEPT { Vec::new() } else { scratch }
    }

    pub(crate) fn command(&mut self, args: &[&[u8]]) {
        self.start(args.len());
        for arg in args {
            self.arg(arg);
        }
    }

    /// `SET key value [EX seconds]`, the value as it lies in its frames.
    pub(crate) fn set(&mut self, key: &str, value: &[Bytes], expire_seconds: Option<u32>) {
        self.reserve();
        self.start(if expire_seconds.is_some() { 5 } else { 3 });
        self.arg(b"SET");
        self.arg(key.as_bytes());
        self.value(value);
        if let Some(seconds) = expire_seconds {
            self.arg(b"EX");
            self.arg(seconds.to_string().as_bytes());
        }
    }

    /// A call of a script; what is large of its arguments comes last, as it lies in its frames.
    pub(crate) fn script(
        &mut self,
        script: &Script,
        keys: &[impl AsRef<[u8]>],
        args: &[&[u8]],
        values: &[&[Bytes]],
    ) {
        self.reserve();
        self.start(3 + keys.len() + args.len() + values.len());
        self.arg(b"EVALSHA");
        self.arg(script.hash().as_bytes());
        self.arg(keys.len().to_string().as_bytes());
        for key in keys {
            self.arg(key.as_ref());
        }
        for arg in args {
            self.arg(arg);
        }
        for value in values {
            self.value(value);
        }
    }

    /// Grown step by step it would be copied five times on its way to a commit.
    fn reserve(&mut self) {
        self.scratch.reserve(if self.scratch.is_empty() { SCRATCH_BYTES } else { 0 });
    }

    fn value(&mut self, frames: &[Bytes]) {
        self.header(b'$', frames.iter().map(Bytes::len).sum());
        self.flush_own();
        self.parts.extend(frames.iter().filter(|frame| !frame.is_empty()).cloned().map(Part::Shared));
        self.scratch.extend_from_slice(b"\r\n");
    }

    fn start(&mut self, args: usize) {
        self.replies += 1;
        self.header(b'*', args);
    }

    /// `kind`, a number in decimal digits, the line's end.
    fn header(&mut self, kind: u8, number: usize) {
        self.scratch.push(kind);
        let from = self.scratch.len();
        let mut rest = number;
        loop {
            self.scratch.push(b'0' + u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.scratch.get_mut(from..).unwrap_or_default().reverse();
        self.scratch.extend_from_slice(b"\r\n");
    }

    fn arg(&mut self, arg: &[u8]) {
        self.header(b'$', arg.len());
        self.scratch.extend_from_slice(arg);
        self.scratch.extend_from_slice(b"\r\n");
    }

    fn flush_own(&mut self) {
        if self.own_from < self.scratch.len() {
            self.parts.push(Part::Own(self.own_from..self.scratch.len()));
            self.own_from = self.scratch.len();
        }
    }

    /// All runs of bytes, in order.
    pub(crate) fn slices(&mut self) -> impl Iterator<Item = &[u8]> {
        self.flush_own();
        let scratch = &self.scratch;
        self.parts.iter().map(|part| match part {
            Part::Own(range) => scratch.get(range.clone()).unwrap_or_default(),
            Part::Shared(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], want: Parsed) {
        assert_eq!(parse(bytes), want, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn replies() {
        check(b"+OK\r\n", Parsed::Whole(Reply::Status("OK".into()), 5));
        check(b"-ERR x\r\n:1\r\n", Parsed::Whole(Reply::Error("ERR x".into()), 8));
        check(b":-5\r\n", Parsed::Whole(Reply::Int(-5), 5));
        check(b"$-1\r\n", Parsed::Whole(Reply::Nil, 5));
        check(b"$3\r\na\r\n\r\n", Parsed::Whole(Reply::Bulk(b"a\r\n".to_vec()), 9));
        let nested = Reply::Array(vec![Reply::Array(vec![Reply::Int(1)]), Reply::Nil]);
        check(b"*2\r\n*1\r\n:1\r\n$-1\r\n", Parsed::Whole(nested, 17));
        for bad in [&b"$3\r\nabcd\r\n"[..], b"?\r\n", b"\r\n", b":x\r\n", b"$-2\r\n", b"*9999999\r\n"] {
            check(bad, Parsed::Garbage);
        }
    }

    #[test]
    fn lengths_are_decimal() {
        for (len, want) in [(0, "$0\r\n"), (9, "$9\r\n"), (10, "$10\r\n"), (262_080, "$262080\r\n")] {
            let mut out = Outgoing::default();
            out.header(b'$', len);
            assert_eq!(out.scratch, want.as_bytes());
        }
    }

    /// R003-2: payload goes out as the caller's own bytes.
    #[test]
    fn commands_keep_payload_as_it_is() {
        let payload = Bytes::from_static(b"payload");
        let mut out = Outgoing::default();
        out.command(&[b"GET", b"k"]);
        out.set("key", &[payload.slice(..3), payload.slice(3..)], Some(60));
        assert_eq!(out.replies, 2);
        let slices: Vec<&[u8]> = out.slices().collect();
        assert!(slices.iter().any(|slice| slice.as_ptr() == payload.as_ptr()), "not copied");
        assert_eq!(
            slices.concat(),
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$7\r\npayload\r\n$2\r\nEX\r\n$2\r\n60\r\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
            let _ = bulk_header(&bytes);
        }

        #[test]
        fn a_cut_reply_is_incomplete(cut in 0_usize..17) {
            prop_assert_eq!(parse(&b"*2\r\n*1\r\n:1\r\n$-1\r\n"[..cut]), Parsed::More);
        }
    }
}
