//! Names as S3 sees them: what a new bucket may be called, and keys in listings that ask for URL encoding.

use std::net::Ipv4Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// Names that S3 keeps for itself.
const RESERVED_STARTS: &[&str] = &["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_ENDS: &[&str] = &["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// May a bucket be created under this name? The plain lane allows more.
pub fn bucket_may_be_called(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'.' | b'-'))
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
        && name.parse::<Ipv4Addr>().is_err()
        && !RESERVED_STARTS.iter().any(|start| name.starts_with(start))
        && !RESERVED_ENDS.iter().any(|end| name.ends_with(end))
}

/// A key as `encoding-type=url` shows it.
pub fn url_encoded(key: &str) -> String {
    utf8_percent_encode(key, PLAIN).to_string()
}

/// A key as a document shows it: encoded if the client asked for that, else with what XML cannot hold in any form
/// replaced, so that one such key does not spoil the document.
pub fn shown(key: &str, url: bool) -> String {
    let unreadable =
        |c: char| (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    if url { url_encoded(key) } else { key.replace(unreadable, "\u{fffd}") }
}

/// The path of a request for an object.
pub fn path_of(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", url_encoded(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for name in ["abc", "a-b.c", "123", "a".repeat(63).as_str()] {
            assert!(bucket_may_be_called(name), "{name}");
        }
        for name in
            ["ab", "Abc", "a_b", "-ab", "ab-", "a..b", "a.-b", "192.168.5.4", "xn--a", "a-s3alias", "a b"]
        {
            assert!(!bucket_may_be_called(name), "{name}");
        }
        assert!(!bucket_may_be_called(&"a".repeat(64)));
    }

    #[test]
    fn keys_are_encoded_but_for_slashes() {
        assert_eq!(shown("a b/ä+%\u{1}", true), "a%20b/%C3%A4%2B%25%01");
        assert_eq!(shown("a b/ä+%\u{1}\n", false), "a b/ä+%\u{fffd}\n");
    }
}
