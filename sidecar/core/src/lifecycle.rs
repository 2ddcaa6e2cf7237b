//! Lifecycle rules of a bucket: which objects end by themselves, and when uploads that nobody finishes are aborted.
//! Days of S3 are seconds here; the lanes translate.

use serde::{Deserialize, Serialize};

/// Name of the bucket's document that holds the rules.
pub const LIFECYCLE_DOCUMENT: &str = "lifecycle";
/// Rules of one bucket: the limit of S3.
pub const RULES_MAX: usize = 1000;

/// All rules of a bucket, as its document holds them (JSON).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifecycle {
    pub rules: Vec<LifecycleRule>,
}

/// How a rule said what it is about, to be told the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FilterForm {
    /// A filter with one condition.
    #[default]
    Single,
    /// A prefix without a filter.
    Bare,
    /// A filter that says nothing.
    Empty,
    /// Several conditions together.
    And,
    /// Several, one of which is a prefix.
    AndPrefix,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LifecycleRule {
    #[serde(default)]
    pub id: String,
    pub enabled: bool,
    #[serde(default)]
    pub prefix: String,
    /// Tags that an object has, all of them, with these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
    /// The object has more bytes than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_above: Option<u64>,
    /// The object has fewer bytes than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_below: Option<u64>,
    #[serde(default, skip_serializing_if = "is_single")]
    pub form: FilterForm,
    /// Objects end this long after they were last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after_seconds: Option<u64>,
    /// Objects end at this time, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at_ms: Option<u64>,
    /// Multipart uploads are aborted this long after they were begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_after_seconds: Option<u64>,
    /// Versions end this long after they ceased to be current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noncurrent_after_seconds: Option<u64>,
    /// So many of them, the newest, stay however old they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noncurrent_keep: Option<u32>,
    /// A delete marker goes when nothing is left that it hides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expire_markers: bool,
}

fn is_single(form: &FilterForm) -> bool {
    *form == FilterForm::Single
}

/// What a rule may be about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub size: u64,
    /// `None`: not known yet; conditions on them may hold.
    pub tags: Option<&'a [(String, String)]>,
}

impl LifecycleRule {
    /// Is the rule about this object?
    pub fn covers(&self, object: &Subject<'_>) -> bool {
        let tagged = |tags: &[(String, String)]| self.tags.iter().all(|tag| tags.contains(tag));
        object.name.starts_with(&self.prefix)
            && self.size_above.is_none_or(|size| object.size > size)
            && self.size_below.is_none_or(|size| object.size < size)
            && object.tags.is_none_or(tagged)
    }

    /// Says something about objects at all.
    pub fn expires_objects(&self) -> bool {
        self.enabled && (self.expire_after_seconds.is_some() || self.expire_at_ms.is_some())
    }

    /// Says something about versions that are not current, or about delete markers.
    pub fn expires_versions(&self) -> bool {
        self.enabled && (self.noncurrent_after_seconds.is_some() || self.expire_markers)
    }

    fn ends(&self, modified_ms: u64, now_ms: u64) -> bool {
        let by_age = self
            .expire_after_seconds
            .is_some_and(|seconds| modified_ms.saturating_add(seconds.saturating_mul(1000)) <= now_ms);
        by_age || self.expire_at_ms.is_some_and(|at| at <= now_ms)
    }
}

impl Lifecycle {
    /// `None`: not what a bucket's document may hold.
    pub fn parse(text: &str) -> Option<Self> {
        let lifecycle: Self = serde_json::from_str(text).ok()?;
        (lifecycle.rules.len() <= RULES_MAX).then_some(lifecycle)
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Is there a rule that goes by tags? Else nobody needs to look for them.
    pub fn asks_tags(&self) -> bool {
        self.rules.iter().any(|rule| rule.enabled && !rule.tags.is_empty())
    }

    /// Is this object's time over?
    pub fn expires(&self, object: &Subject<'_>, modified_ms: u64, now_ms: u64) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.expires_objects() && rule.ends(modified_ms, now_ms) && rule.covers(object))
    }

    /// Is the time over of a version that ceased to be current at `since_ms`, with so many newer ones that are not
    /// current either?
    pub fn expires_version(&self, version: &Subject<'_>, since_ms: u64, newer: u32, now_ms: u64) -> bool {
        self.rules.iter().any(|rule| {
            let late = rule
                .noncurrent_after_seconds
                .is_some_and(|seconds| since_ms.saturating_add(seconds.saturating_mul(1000)) <= now_ms);
            rule.enabled && late && newer >= rule.noncurrent_keep.unwrap_or(0) && rule.covers(version)
        })
    }

    /// Is a delete marker that hides nothing to go?
    pub fn expires_marker(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.enabled && rule.expire_markers && name.starts_with(&rule.prefix))
    }

    /// Is this upload to be aborted?
    pub fn aborts(&self, name: &str, begun_ms: u64, now_ms: u64) -> bool {
        self.rules.iter().any(|rule| {
            let late = rule
                .abort_after_seconds
                .is_some_and(|seconds| begun_ms.saturating_add(seconds.saturating_mul(1000)) <= now_ms);
            rule.enabled && late && name.starts_with(&rule.prefix)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str) -> LifecycleRule {
        LifecycleRule { enabled: true, prefix: prefix.into(), ..LifecycleRule::default() }
    }

    fn plain(name: &str) -> Subject<'_> {
        Subject { name, size: 5, tags: Some(&[]) }
    }

    #[test]
    fn rules_apply_by_tags_and_size() {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let ends = LifecycleRule { expire_after_seconds: Some(0), ..rule("a") };
        let check = |rule: LifecycleRule, size: u64, tags: Option<&[(String, String)]>, want: bool| {
            let lifecycle = Lifecycle { rules: vec![rule] };
            let subject = Subject { name: "a", size, tags };
            assert_eq!(lifecycle.expires(&subject, 0, 1), want, "{lifecycle:?} {subject:?}");
            assert!(!lifecycle.expires(&Subject { name: "b", ..subject }, 0, 1));
            assert_eq!(Lifecycle::parse(&lifecycle.text()), Some(lifecycle));
        };
        let two = [tag("k", "v"), tag("l", "w")];
        let tagged = LifecycleRule { tags: two.to_vec(), form: FilterForm::And, ..ends.clone() };
        check(tagged.clone(), 0, Some(&two), true);
        check(tagged.clone(), 0, Some(&two[..1]), false);
        check(tagged.clone(), 0, Some(&[tag("k", "other"), tag("l", "w")]), false);
        check(tagged, 0, None, true);
        let sized = LifecycleRule { size_above: Some(10), size_below: Some(20), ..ends };
        for (size, want) in [(10, false), (11, true), (19, true), (20, false)] {
            check(sized.clone(), size, Some(&[]), want);
        }
    }

    #[test]
    fn rules_apply_by_prefix_and_age() {
        let lifecycle = Lifecycle {
            rules: vec![
                LifecycleRule { expire_after_seconds: Some(10), ..rule("log/") },
                LifecycleRule { expire_at_ms: Some(5_000), ..rule("old/") },
                LifecycleRule { abort_after_seconds: Some(1), ..rule("") },
                LifecycleRule { enabled: false, expire_after_seconds: Some(0), ..rule("") },
                LifecycleRule {
                    noncurrent_after_seconds: Some(5),
                    noncurrent_keep: Some(2),
                    expire_markers: true,
                    ..rule("v/")
                },
            ],
        };
        assert!(
            lifecycle.expires(&plain("log/a"), 1_000, 11_000)
                && !lifecycle.expires(&plain("log/a"), 1_001, 11_000)
        );
        assert!(
            lifecycle.expires(&plain("old/a"), 4_999, 5_000) && !lifecycle.expires(&plain("old/a"), 0, 4_999)
        );
        assert!(!lifecycle.expires(&plain("a"), 0, u64::MAX), "a rule that is off");
        assert!(lifecycle.aborts("x", 1_000, 2_000) && !lifecycle.aborts("x", 1_001, 2_000));
        assert!(lifecycle.expires_version(&plain("v/a"), 1_000, 2, 6_000) && lifecycle.expires_marker("v/a"));
        assert!(!lifecycle.expires_version(&plain("v/a"), 1_001, 2, 6_000), "too young");
        assert!(!lifecycle.expires_version(&plain("v/a"), 1_000, 1, 6_000), "one of the newest two");
        assert!(!lifecycle.expires_version(&plain("a"), 0, 9, u64::MAX) && !lifecycle.expires_marker("a"));
        assert_eq!(Lifecycle::parse(&lifecycle.text()), Some(lifecycle));
        assert_eq!(Lifecycle::parse("{}"), None);
        assert_eq!(Lifecycle::parse("{\"rules\":[{\"enabled\":true,\"foreign\":1}]}"), None);
    }
}
