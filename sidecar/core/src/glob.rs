//! Patterns of names, as the engine's own KEYS and SCAN know them: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before what stands
//! for itself, byte by byte. A name is read once from front to back, whatever the pattern: nothing is tried again.

/// Longest pattern: that of a name.
pub const PATTERN_BYTES_MAX: usize = crate::key::NAME_BYTES_MAX;
/// Places of a pattern that one machine word follows.
const WORD: usize = 64;
const BYTES: usize = 256;

/// What stands for one or more bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any number of any bytes.
    Star,
    /// One byte for which this holds.
    One(Box<[bool; BYTES]>),
}

/// A pattern, ready to be held against names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    head: String,
    has_literal: bool,
    /// Bytes of a match beside those of stars.
    count: usize,
    words: usize,
    /// By byte, `words` each: the places that this byte fills.
    fits: Vec<u64>,
    /// Places where a star stands: having come so far, any byte leaves it so.
    stays: Vec<u64>,
}

/// Stricter than the engine, which reads what is not closed as if it were: a deletion must not be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is empty: it would match nothing")]
    Empty,
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    #[error("a pattern holds no NUL")]
    Nul,
    #[error("a [ of the pattern has no ] (write \\[ for the letter)")]
    Open,
    #[error("the pattern ends in a backslash (write \\\\ for the letter)")]
    Escape,
    #[error("between [ and ] stand ASCII letters only: a pattern goes byte by byte")]
    NotAscii,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            0 => return Err(PatternError::Empty),
            1..=PATTERN_BYTES_MAX if text.contains('\0') => return Err(PatternError::Nul),
            1..=PATTERN_BYTES_MAX => {}
            _ => return Err(PatternError::TooLong),
        }
        let mut reader = Reader { rest: text.as_bytes(), parts: Vec::new(), head: Vec::new(), literals: 0 };
        while let Some((byte, rest)) = reader.rest.split_first() {
            reader.rest = rest;
            reader.part(*byte)?;
        }
        let Reader { parts, head, literals, .. } = reader;
        // Only ASCII ends it, so it is whole.
        let head = String::from_utf8(head).unwrap_or_default();
        Ok(Self { head, ..Self::of(text, &parts, literals > 0) })
    }

    fn of(text: &str, parts: &[Part], has_literal: bool) -> Self {
        let count = parts.iter().filter(|part| matches!(part, Part::One(_))).count();
        let words = count / WORD + 1;
        let (mut fits, mut stays, mut at) = (vec![0; BYTES * words], vec![0; words], 0);
        for part in parts {
            match part {
                Part::Star => mark(&mut stays, at),
                Part::One(set) => {
                    let found = set.iter().enumerate().filter(|(_, holds)| **holds);
                    found.for_each(|(byte, _)| mark(&mut fits[byte * words..][..words], at));
                    at += 1;
                }
            }
        }
        Self { text: text.to_owned(), head: String::new(), has_literal, count, words, fits, stays }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every match begins with.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Is there a letter in it that stands for itself? Without one it says next to nothing about names.
    pub fn has_literal(&self) -> bool {
        self.has_literal
    }

    /// What every match that begins with `prefix` begins with; `None`: there is no such match.
    pub fn head_within<'a>(&'a self, prefix: &'a str) -> Option<&'a str> {
        if self.head.starts_with(prefix) {
            return Some(&self.head);
        }
        prefix.starts_with(&self.head).then_some(prefix)
    }

    pub fn matches(&self, name: &str) -> bool {
        // Bit i: the bytes so far fill the first i places.
        let mut reached = vec![0_u64; self.words];
        mark(&mut reached, 0);
        for byte in name.bytes() {
            let fits = &self.fits[usize::from(byte) * self.words..][..self.words];
            let (mut carry, mut any) = (0, 0);
            for ((reached, fits), stays) in reached.iter_mut().zip(fits).zip(&self.stays) {
                let filled = *reached & fits;
                *reached = (filled << 1) | carry | (*reached & stays);
                carry = filled >> (WORD - 1);
                any |= *reached;
            }
            if any == 0 {
                return false;
            }
        }
        reached[self.count / WORD] >> (self.count % WORD) & 1 == 1
    }
}

fn mark(words: &mut [u64], bit: usize) {
    words[bit / WORD] |= 1 << (bit % WORD);
}

/// A pattern that is being read.
struct Reader<'a> {
    rest: &'a [u8],
    parts: Vec<Part>,
    head: Vec<u8>,
    literals: usize,
}

impl Reader<'_> {
    fn part(&mut self, byte: u8) -> Result<(), PatternError> {
        let part = match byte {
            b'*' => Part::Star,
            b'?' => Part::One(Box::new([true; BYTES])),
            b'[' => Part::One(Box::new(self.set()?)),
            b'\\' => {
                let byte = self.byte().ok_or(PatternError::Escape)?;
                return self.literal(byte);
            }
            byte => return self.literal(byte),
        };
        self.parts.push(part);
        Ok(())
    }

    fn literal(&mut self, byte: u8) -> Result<(), PatternError> {
        if self.literals == self.parts.len() {
            self.head.push(byte);
        }
        self.literals += 1;
        let mut set = [false; BYTES];
        set[usize::from(byte)] = true;
        self.parts.push(Part::One(Box::new(set)));
        Ok(())
    }

    /// Behind a `[`.
    fn set(&mut self) -> Result<[bool; BYTES], PatternError> {
        let mut set = [false; BYTES];
        let negated = self.rest.first() == Some(&b'^');
        if negated {
            self.byte();
        }
        loop {
            let byte = self.byte().ok_or(PatternError::Open)?;
            let (first, last) = match (byte, self.rest) {
                (b'\\', _) => {
                    let byte = self.byte().ok_or(PatternError::Open)?;
                    (byte, byte)
                }
                (b']', _) => break,
                (first, [b'-', last, rest @ ..]) => {
                    self.rest = rest;
                    (first, *last)
                }
                (byte, _) => (byte, byte),
            };
            if !(first.is_ascii() && last.is_ascii()) {
                return Err(PatternError::NotAscii);
            }
            set[usize::from(first.min(last))..=usize::from(first.max(last))].fill(true);
        }
        Ok(if negated { set.map(|holds| !holds) } else { set })
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The engine's own way, which tries every length for every star.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|from| naive(rest, &name[from..])),
            [b'?', rest @ ..] => !name.is_empty() && naive(rest, &name[1..]),
            [b'[', rest @ ..] => {
                let Some((first, after)) = name.split_first() else { return false };
                let (holds, rest) = naive_set(rest, *first);
                holds && naive(rest, after)
            }
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                name.first() == Some(byte) && naive(rest, &name[1..])
            }
        }
    }

    fn naive_set(mut rest: &[u8], byte: u8) -> (bool, &[u8]) {
        let negated = rest.first() == Some(&b'^');
        rest = &rest[usize::from(negated)..];
        let mut holds = false;
        loop {
            match rest {
                [b'\\', one, after @ ..] => (holds, rest) = (holds || *one == byte, after),
                [b']', after @ ..] => return (holds != negated, after),
                [from, b'-', to, after @ ..] => {
                    holds |= (*from.min(to)..=*from.max(to)).contains(&byte);
                    rest = after;
                }
                [one, after @ ..] => (holds, rest) = (holds || *one == byte, after),
                [] => panic!("the pattern was refused"),
            }
        }
    }

    fn check(pattern: &str, head: &str, yes: &[&str], no: &[&str]) {
        let read = Pattern::parse(pattern).expect("a pattern");
        assert_eq!(read.head(), head, "{pattern}");
        for name in yes {
            assert!(read.matches(name), "{pattern} matches {name}");
        }
        for name in no {
            assert!(!read.matches(name), "{pattern} does not match {name}");
        }
    }

    #[test]
    fn patterns_are_those_of_the_engine() {
        check("a*c", "a", &["ac", "abc", "a/b/c"], &["a", "abcd", "xac"]);
        check(
            "logs/*.txt",
            "logs/",
            &["logs/a.txt", "logs/a/b.txt", "logs/.txt"],
            &["logs/a.tx", "log/a.txt"],
        );
        check("h?llo", "h", &["hello", "hallo"], &["hllo", "hällo"]);
        check("[a-c]x[^0-9]", "", &["axy", "cx-"], &["dxy", "ax7", "ax"]);
        check("[z-a]", "", &["m"], &["A"]);
        check("\\*[\\]]\\\\", "*", &["*]\\"], &["x]\\"]);
        check("[]x", "", &[], &["x", "ax"]);
        check("[^]x", "", &["ax"], &["x"]);
        check("ä*", "ä", &["ä", "äb"], &["a"]);
        check("?", "", &["a"], &["ä"]);
        check("**", "", &["a", "abc"], &[]);
        check("plain", "plain", &["plain"], &["plain1", "plai"]);
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for (pattern, want) in [
            ("", PatternError::Empty),
            ("a[b", PatternError::Open),
            ("a[", PatternError::Open),
            ("[a-]", PatternError::Open),
            ("[a\\]", PatternError::Open),
            ("a\\", PatternError::Escape),
            ("[ä]", PatternError::NotAscii),
            ("a\0", PatternError::Nul),
            (&"a".repeat(PATTERN_BYTES_MAX + 1), PatternError::TooLong),
        ] {
            assert_eq!(Pattern::parse(pattern), Err(want), "{pattern:?}");
        }
    }

    #[test]
    fn a_prefix_beside_the_pattern_narrows_it_or_leaves_nothing() {
        let pattern = Pattern::parse("logs/2026-*").expect("a pattern");
        assert_eq!(pattern.head_within(""), Some("logs/2026-"));
        assert_eq!(pattern.head_within("logs/"), Some("logs/2026-"));
        assert_eq!(pattern.head_within("logs/2026-07"), Some("logs/2026-07"));
        assert_eq!(pattern.head_within("logs/2025"), None);
    }

    #[test]
    fn stars_and_question_marks_alone_say_nothing() {
        for (pattern, want) in [("*", false), ("?*", false), ("[a-z]*", false), ("*.x", true), ("\\*", true)]
        {
            assert_eq!(Pattern::parse(pattern).expect("a pattern").has_literal(), want, "{pattern}");
        }
    }

    /// What takes ages where every length is tried for every star.
    #[test]
    fn many_stars_cost_no_more_than_one() {
        let pattern = Pattern::parse(&["a*".repeat(500).as_str(), "b"].concat()).expect("a pattern");
        let name = "a".repeat(1_024);
        assert!(!pattern.matches(&name));
        assert!(pattern.matches(&[name.as_str(), "b"].concat()));
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(
            pattern in "(\\*|\\?|[a-c]|\\\\[*a]|\\[\\^?[a-c]{0,3}(a-b)?\\]){1,10}",
            name in "[a-c*]{0,12}",
        ) {
            let read = Pattern::parse(&pattern).expect("a pattern");
            prop_assert_eq!(read.matches(&name), naive(pattern.as_bytes(), name.as_bytes()), "{} {}", pattern, name);
            if read.matches(&name) {
                prop_assert!(name.starts_with(read.head()));
            }
        }

        #[test]
        fn long_patterns_agree_too(parts in proptest::collection::vec("(ab|a|\\?|[a-b][a-b][a-b]|\\*)", 30..90), seed in any::<u64>()) {
            let pattern = parts.concat().replace("**", "*");
            let read = Pattern::parse(&pattern).expect("a pattern");
            // One that matches, and one that differs from it by a byte.
            let filled: String = pattern.bytes().map(|byte| match byte {
                b'*' | b'?' => if seed & 1 == 0 { 'a' } else { 'b' },
                byte => char::from(byte),
            }).collect();
            prop_assert!(read.matches(&filled));
            let longer = format!("{filled}c");
            prop_assert!(!read.matches(&longer) || pattern.ends_with(['*', '?']));
        }

        #[test]
        fn any_text_is_read_without_panic(pattern in "\\PC{0,40}", name in "\\PC{0,40}") {
            if let Ok(read) = Pattern::parse(&pattern) {
                prop_assert!(!read.matches(&name) || name.starts_with(read.head()));
            }
        }
    }
}
