//! Conditional requests in the order of RFC 9110, 13.2.2.

use jiff::{
    Timestamp,
    fmt::rfc2822::{DateTimeParser, DateTimePrinter},
};

use crate::etag::{ETag, TagSet};

static DATES: DateTimeParser = DateTimeParser::new();

/// The `If-*` headers of a request. Dates are whole seconds since 1970: HTTP knows no finer ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    pub if_match: Option<TagSet>,
    pub if_none_match: Option<TagSet>,
    pub if_modified_since: Option<i64>,
    pub if_unmodified_since: Option<i64>,
}

/// Which half of the RFC's table applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// GET and HEAD: a match of `If-None-Match` answers 304.
    Read,
    /// PUT and DELETE: it answers 412.
    Write,
}

/// What the conditions say about the current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Proceed,
    NotModified,
    Failed,
}

/// The current representation.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    pub etag: &'a ETag,
    pub modified_ms: u64,
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Evaluates all conditions against what is stored now (`None`: nothing).
    pub fn evaluate(&self, access: Access, current: Option<Current<'_>>) -> Outcome {
        let modified = current.map(|current| i64::try_from(current.modified_ms / 1000).unwrap_or(i64::MAX));
        if let Some(tags) = &self.if_match {
            if !current.is_some_and(|current| tags.matches_strong(current.etag)) {
                return Outcome::Failed;
            }
        } else if let (Some(limit), Some(modified)) = (self.if_unmodified_since, modified)
            && modified > limit
        {
            return Outcome::Failed;
        }
        if let Some(tags) = &self.if_none_match {
            if current.is_some_and(|current| tags.matches_weak(current.etag)) {
                return if access == Access::Read { Outcome::NotModified } else { Outcome::Failed };
            }
        } else if let (Access::Read, Some(limit), Some(modified)) = (access, self.if_modified_since, modified)
            && modified <= limit
        {
            return Outcome::NotModified;
        }
        Outcome::Proceed
    }
}

/// `If-Range`: the range applies only while the body is still the one the client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    Tag(TagSet),
    Date(i64),
}

impl IfRange {
    pub fn parse(text: &str) -> Option<Self> {
        match parse_http_date(text) {
            Some(date) => Some(Self::Date(date)),
            None => TagSet::parse(text).map(Self::Tag),
        }
    }

    pub fn holds(&self, current: Current<'_>) -> bool {
        match self {
            Self::Tag(tags) => tags.matches_strong(current.etag),
            Self::Date(date) => u64::try_from(*date).is_ok_and(|date| date == current.modified_ms / 1000),
        }
    }
}

/// An HTTP date as seconds since 1970. `None`: not a date; the header is then ignored, as the RFC asks.
pub fn parse_http_date(text: &str) -> Option<i64> {
    DATES.parse_timestamp(text.trim()).ok().map(Timestamp::as_second)
}

/// `Last-Modified` and friends.
pub fn http_date(ms: u64) -> String {
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ETag = ETag::Md5([7; 16]);
    const MODIFIED_MS: u64 = 784_111_777_000;

    fn tags(text: &str) -> Option<TagSet> {
        Some(TagSet::parse(text).expect("tags"))
    }

    fn check(conditions: &Conditions, exists: bool, read: Outcome, write: Outcome) {
        let current = exists.then_some(Current { etag: &OURS, modified_ms: MODIFIED_MS });
        assert_eq!(conditions.evaluate(Access::Read, current), read, "read {conditions:?}");
        assert_eq!(conditions.evaluate(Access::Write, current), write, "write {conditions:?}");
    }

    #[test]
    fn if_match_needs_a_strong_match() {
        let ours = Conditions { if_match: tags(&OURS.quoted()), ..Default::default() };
        check(&ours, true, Outcome::Proceed, Outcome::Proceed);
        check(&ours, false, Outcome::Failed, Outcome::Failed);
        let weak = Conditions { if_match: tags(&format!("W/{}", OURS.quoted())), ..Default::default() };
        check(&weak, true, Outcome::Failed, Outcome::Failed);
        let any = Conditions { if_match: tags("*"), ..Default::default() };
        check(&any, true, Outcome::Proceed, Outcome::Proceed);
        check(&any, false, Outcome::Failed, Outcome::Failed);
    }

    #[test]
    fn if_none_match_answers_by_access() {
        let ours = Conditions { if_none_match: tags(&OURS.quoted()), ..Default::default() };
        check(&ours, true, Outcome::NotModified, Outcome::Failed);
        check(&ours, false, Outcome::Proceed, Outcome::Proceed);
        let any = Conditions { if_none_match: tags("*"), ..Default::default() };
        check(&any, true, Outcome::NotModified, Outcome::Failed);
        check(&any, false, Outcome::Proceed, Outcome::Proceed);
        let other = Conditions { if_none_match: tags("\"x\""), ..Default::default() };
        check(&other, true, Outcome::Proceed, Outcome::Proceed);
    }

    #[test]
    fn dates_have_a_second_and_yield_to_tags() {
        let second = i64::try_from(MODIFIED_MS / 1000).expect("fits");
        let since = |at| Conditions { if_modified_since: Some(at), ..Default::default() };
        check(&since(second), true, Outcome::NotModified, Outcome::Proceed);
        check(&since(second - 1), true, Outcome::Proceed, Outcome::Proceed);
        let unmodified = |at| Conditions { if_unmodified_since: Some(at), ..Default::default() };
        check(&unmodified(second), true, Outcome::Proceed, Outcome::Proceed);
        check(&unmodified(second - 1), true, Outcome::Failed, Outcome::Failed);
        let both = Conditions { if_none_match: tags("\"x\""), ..since(second) };
        check(&both, true, Outcome::Proceed, Outcome::Proceed);
        let both = Conditions { if_match: tags(&OURS.quoted()), ..unmodified(second - 1) };
        check(&both, true, Outcome::Proceed, Outcome::Proceed);
    }

    #[test]
    fn if_range_knows_tags_and_dates() {
        let current = Current { etag: &OURS, modified_ms: MODIFIED_MS };
        for (text, want) in [
            (OURS.quoted(), true),
            (format!("W/{}", OURS.quoted()), false),
            ("\"other\"".into(), false),
            (http_date(MODIFIED_MS), true),
            (http_date(MODIFIED_MS + 1000), false),
        ] {
            assert_eq!(IfRange::parse(&text).expect("parses").holds(current), want, "{text}");
        }
    }

    #[test]
    fn dates_look_as_http_wants_them() {
        assert_eq!(http_date(MODIFIED_MS), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
