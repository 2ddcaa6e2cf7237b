//! `Range` of RFC 9110: one byte range. Several ranges, or a unit we do not know, mean the whole body, which the
//! RFC allows a server to answer.

use std::ops::Range;

/// A range as the client asked for it, before the size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=5-9`, both ends included.
    Between { first: u64, last: u64 },
    /// `bytes=5-`
    From { first: u64 },
    /// `bytes=-5`
    Last { len: u64 },
}

impl ByteRange {
    /// `None`: ignore the header and answer with the whole body.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, set) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", "") => None,
            ("", len) => Some(Self::Last { len: number(len)? }),
            (first, "") => Some(Self::From { first: number(first)? }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between { first, last })
            }
        }
    }

    /// The bytes of a body of `size`. `None`: the range cannot be satisfied (416).
    pub fn resolve(self, size: u64) -> Option<Range<u64>> {
        let (start, end) = match self {
            Self::Between { first, last } => (first, last.saturating_add(1).min(size)),
            Self::From { first } => (first, size),
            Self::Last { len } => (size.saturating_sub(len), size),
        };
        (start < end).then_some(start..end)
    }
}

/// Digits only; a number too large for us is as good as the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(header: &str, size: u64, want: Option<Range<u64>>) {
        let range = ByteRange::parse(header).expect("a range");
        assert_eq!(range.resolve(size), want, "{header} of {size}");
    }

    #[test]
    fn first_and_last_are_included() {
        check("bytes=0-0", 4, Some(0..1));
        check("bytes=1-2", 4, Some(1..3));
        check("Bytes= 1 - 2 ", 4, Some(1..3));
    }

    #[test]
    fn end_beyond_the_object_is_cut() {
        check("bytes=2-99", 4, Some(2..4));
        check("bytes=2-99999999999999999999999", 4, Some(2..4));
        check("bytes=2-", 4, Some(2..4));
    }

    #[test]
    fn suffix_longer_than_object() {
        check("bytes=-9", 4, Some(0..4));
        check("bytes=-1", 4, Some(3..4));
    }

    #[test]
    fn nothing_to_send_is_unsatisfiable() {
        check("bytes=4-", 4, None);
        check("bytes=9-10", 4, None);
        check("bytes=-0", 4, None);
        check("bytes=0-", 0, None);
        check("bytes=-5", 0, None);
    }

    #[test]
    fn what_we_do_not_serve_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=0-1,3-4",
        ] {
            assert_eq!(ByteRange::parse(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn resolved_ranges_lie_inside(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Some(range) = ByteRange::parse(&header).and_then(|range| range.resolve(size)) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(header in "\\PC{0,60}") {
            let _ = ByteRange::parse(&header);
        }
    }
}
