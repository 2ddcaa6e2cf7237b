//! Texts of a policy: wildcards, and from version 2012-10-17 on variables that stand for what is known of a request.

use std::borrow::Cow;

use super::{PolicyError, condition, malformed, unknown};

/// The language that a policy is written in, by its Version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// 2008-10-17, or none: variables are plain text.
    Plain,
    /// 2012-10-17.
    Variables,
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any text.
    Any,
    /// What is known of the request under this key, in lower case.
    Variable {
        key: String,
        default: Option<String>,
    },
}

use Piece::{Any, Char, One, Variable};

/// A text as it was written, and its pieces.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    pieces: Vec<Piece>,
}

impl Pattern {
    pub(super) fn parse(text: &str, language: Language) -> Result<Self, PolicyError> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if language == Language::Variables
                && let Some(inside) = rest.strip_prefix("${")
            {
                let (piece, behind) = variable(inside)?;
                pieces.push(piece);
                rest = behind;
                continue;
            }
            pieces.push(match first {
                '*' => Any,
                '?' => One,
                other => Char(other),
            });
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The pieces with what the variables stand for in this request; what they stand for holds no wildcards. `None`: one
    /// stands for nothing.
    pub(super) fn filled(&self, facts: &[(String, String)]) -> Option<Cow<'_, [Piece]>> {
        if self.variables().next().is_none() {
            return Some(Cow::Borrowed(&self.pieces));
        }
        let mut filled = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let Variable { key, default } = piece else {
                filled.push(piece.clone());
                continue;
            };
            let known = facts.iter().find(|(known, _)| known == key).map(|(_, value)| value);
            filled.extend(known.or(default.as_ref())?.chars().map(Char));
        }
        Some(Cow::Owned(filled))
    }

    /// The keys that its variables ask for.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Variable { key, .. } => Some(key.as_str()),
            Char(_) | One | Any => None,
        })
    }
}

/// What follows `${`: `key}`, `key, 'default'}`, or one of the characters that would else have a meaning. And the rest.
fn variable(inside: &str) -> Result<(Piece, &str), PolicyError> {
    let wrong = || malformed("Policy has an invalid policy variable");
    for (escape, meant) in [("*}", '*'), ("?}", '?'), ("$}", '$')] {
        if let Some(rest) = inside.strip_prefix(escape) {
            return Ok((Char(meant), rest));
        }
    }
    let end = inside.find([',', '}', '{', '$']).ok_or_else(wrong)?;
    let (name, behind) = inside.split_at(end);
    let key = name.trim().to_ascii_lowercase();
    let (default, rest) = match behind.strip_prefix(',') {
        None => (None, behind.strip_prefix('}').ok_or_else(wrong)?),
        Some(given) => {
            let quoted = given.trim_start_matches(' ').strip_prefix('\'').ok_or_else(wrong)?;
            let (default, rest) = quoted.split_once('\'').ok_or_else(wrong)?;
            (Some(default.to_owned()), rest.trim_start_matches(' ').strip_prefix('}').ok_or_else(wrong)?)
        }
    };
    if key.is_empty() {
        return Err(wrong());
    }
    if !condition::is_known(&key) {
        return Err(unknown(&format!("The variable {}", name.trim())));
    }
    if condition::has_many(&key) {
        return Err(malformed("A policy variable stands for one value, and this key has several"));
    }
    Ok((Variable { key, default }, rest))
}

/// The text of pieces that stand for themselves.
pub(super) fn plain(pieces: &[Piece]) -> String {
    let plain = |piece: &Piece| match piece {
        Char(own) => Some(*own),
        One => Some('?'),
        Any => Some('*'),
        Variable { .. } => None,
    };
    pieces.iter().filter_map(plain).collect()
}

/// Is the text like that? Linear in both: the last star is the only one gone back to.
pub(super) fn like(pattern: &[Piece], text: &str) -> bool {
    let next = |at: usize| text.get(at..).and_then(|rest| rest.chars().next());
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(found) = next(t) {
        match pattern.get(p) {
            Some(Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == One || *wanted == Char(found) => {
                p += 1;
                t += found.len_utf8();
            }
            _ => match star {
                Some((at, from)) => {
                    let from = from + next(from).map_or(1, char::len_utf8);
                    star = Some((at, from));
                    p = at + 1;
                    t = from;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|piece| *piece == Any))
}

/// The same for ARNs, whose first five parts end at colons that no wildcard reaches across.
pub(super) fn like_arn(pattern: &[Piece], text: &str) -> bool {
    /// `arn:partition:service:region:account:resource`
    const PARTS: usize = 6;
    let mut wanted = pattern.splitn(PARTS, |piece| *piece == Char(':'));
    let mut found = text.splitn(PARTS, ':');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if like(wanted, found) => {}
            _ => return false,
        }
    }
}

/// Is a name like that, whatever the case of its letters?
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let pattern = Pattern::parse(&pattern.to_ascii_lowercase(), Language::Plain);
    pattern.is_ok_and(|pattern| like(&pattern.pieces, &text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Facts;

    fn check(pattern: &str, text: &str, want: Option<bool>) {
        let facts: Facts = [("aws:username", "a*n"), ("s3:prefix", "p/")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let parsed = Pattern::parse(pattern, Language::Variables).expect("a pattern");
        let found = parsed.filled(&facts).map(|pieces| like(&pieces, text));
        assert_eq!(found, want, "{pattern} {text}");
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c*", "abcd", true),
            ("a?", "aü", true),
            ("?*ü", "aüüü", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
        ] {
            check(pattern, text, Some(want));
        }
    }

    #[test]
    fn variables_stand_for_what_is_known() {
        check("home/${aws:username}/*", "home/a*n/x", Some(true));
        check("home/${AWS:UserName}/*", "home/a*n/x", Some(true));
        check("home/${aws:username}/*", "home/ann/x", Some(false));
        check("${s3:prefix}${aws:username}", "p/a*n", Some(true));
        check("a/${aws:userid}", "a/", None);
        check("a/${aws:userid, 'no one'}/*", "a/no one/x", Some(true));
        check("a/${aws:username, 'other'}", "a/other", Some(false));
        check("${*}${?}${$}$x*", "*?$$xy", Some(true));
        check("${*}", "x", Some(false));
    }

    #[test]
    fn the_older_language_has_no_variables() {
        let parsed = Pattern::parse("${aws:username}*", Language::Plain).expect("a pattern");
        assert!(like(&parsed.filled(&[]).expect("pieces"), "${aws:username}x"));
        assert!(Pattern::parse("${aws", Language::Plain).is_ok());
    }

    #[test]
    fn variables_that_are_none_are_refused() {
        for text in [
            "${",
            "${aws:username",
            "${}",
            "${aws:username, x}",
            "${aws:username, 'x}",
            "${aws:username, 'x'",
            "${aws:${aws:username}}",
            "${s3:RequestObjectTagKeys}",
        ] {
            let refused = Pattern::parse(text, Language::Variables).expect_err("no variable");
            assert!(matches!(refused, PolicyError::Malformed(_)), "{text}");
        }
        for text in ["${aws:PrincipalTag/team}", "${aws:nothing, 'x'}", "${who}"] {
            let refused = Pattern::parse(text, Language::Variables).expect_err("not known");
            assert!(matches!(refused, PolicyError::NotImplemented(_)), "{text}");
        }
    }

    #[test]
    fn parts_of_an_arn_are_compared_one_by_one() {
        for (pattern, want) in [
            ("arn:aws:iam::*:user/ann", true),
            ("arn:aws:iam::000000000000:user/*", true),
            ("arn:*:user/ann", false),
            ("arn:aws:iam::*", false),
            ("*", false),
        ] {
            let parsed = Pattern::parse(pattern, Language::Plain).expect("a pattern");
            assert_eq!(like_arn(&parsed.pieces, "arn:aws:iam::000000000000:user/ann"), want, "{pattern}");
        }
    }
}
