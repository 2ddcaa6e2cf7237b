//! One enum per step of the pass. `category` is the only metric label an error gives; `retry` says when to look
//! again.

use std::error::Error as StdError;

/// The whole chain on one line: what we were doing, then why it failed. A source that repeats its parent's text
/// (kube's errors do) is left out.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
