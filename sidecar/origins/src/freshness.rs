//! How old a copy may be. Pure.

use blobstore_sidecar_api::origins::OriginConfig;

/// What to do with a copy of some age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Fresh,
    /// Serve it, and ask the origin in the background.
    Refresh,
    /// Ask first. If the origin fails, it may still be served.
    Expired {
        if_error: bool,
    },
}

/// A copy cannot be younger than now by more than clocks are read apart.
const FUTURE_MS_MAX: u64 = 5_000;

/// `None`: it is from the future, since the clock was stepped back, and may be of any age.
pub(crate) fn age_ms(now_ms: u64, since_ms: u64) -> Option<u64> {
    (since_ms <= now_ms.saturating_add(FUTURE_MS_MAX)).then(|| now_ms.saturating_sub(since_ms))
}

pub(crate) fn freshness(config: &OriginConfig, age_ms: Option<u64>) -> Freshness {
    let Some(ttl) = config.ttl_seconds else { return Freshness::Fresh };
    let Some(age_ms) = age_ms else { return Freshness::Expired { if_error: true } };
    let within = |seconds: u64| age_ms < seconds.saturating_mul(1_000);
    if within(ttl) {
        Freshness::Fresh
    } else if within(ttl.saturating_add(config.stale_while_revalidate_seconds)) {
        Freshness::Refresh
    } else {
        Freshness::Expired { if_error: within(ttl.saturating_add(config.stale_if_error_seconds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ttl: &str, age_ms: u64, want: Freshness) {
        let text = format!(
            r#"{{"name": "o", "bucket": "b", "source": {{"type": "http", "url": "http://o/"}}, "ttlSeconds": {ttl},
                "staleWhileRevalidateSeconds": 5, "staleIfErrorSeconds": 20, "negativeTtlSeconds": 0}}"#
        );
        let config: OriginConfig = serde_json::from_str(&text).expect("a document");
        assert_eq!(freshness(&config, Some(age_ms)), want, "{ttl} {age_ms}");
    }

    #[test]
    fn a_copy_from_the_future_is_asked_about() {
        assert_eq!(age_ms(10_000, 4_000), Some(6_000));
        assert_eq!(age_ms(10_000, 10_001), Some(0), "clocks are read one after the other");
        assert_eq!(age_ms(10_000, 3_600_000), None);
        let text = r#"{"name": "o", "bucket": "b", "source": {"type": "http", "url": "http://o/"}, "ttlSeconds": 60,
            "negativeTtlSeconds": 0}"#;
        let config: OriginConfig = serde_json::from_str(text).expect("a document");
        assert_eq!(freshness(&config, None), Freshness::Expired { if_error: true });
    }

    #[test]
    fn ages_of_a_copy() {
        check("10", 9_999, Freshness::Fresh);
        check("10", 10_000, Freshness::Refresh);
        check("10", 14_999, Freshness::Refresh);
        check("10", 15_000, Freshness::Expired { if_error: true });
        check("10", 30_000, Freshness::Expired { if_error: false });
        check("0", 0, Freshness::Refresh);
        check("null", u64::MAX, Freshness::Fresh);
    }
}
