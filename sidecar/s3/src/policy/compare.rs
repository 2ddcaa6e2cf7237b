//! How an operator of a condition compares what is known of a request with what is wanted.

use std::borrow::Cow;
use std::net::IpAddr;

use s3s::dto::{Timestamp, TimestampFormat};

use super::pattern::{Piece, like, like_arn, plain};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Bool,
    Ip,
    /// Numbers, and times as numbers: holds for these orders of what is to what is wanted.
    Number {
        less: bool,
        equal: bool,
        greater: bool,
    },
    Date {
        less: bool,
        equal: bool,
        greater: bool,
    },
    Null,
}

use Compare::{Arn, Bool, Date, Equals, EqualsIgnoreCase, Ip, Like, Null, Number};

/// Operators by name, and whether they are a `Not…`.
pub(super) const OPERATORS: &[(&str, Compare, bool)] = &[
    ("StringEquals", Equals, false),
    ("StringNotEquals", Equals, true),
    ("StringEqualsIgnoreCase", EqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", EqualsIgnoreCase, true),
    ("StringLike", Like, false),
    ("StringNotLike", Like, true),
    ("ArnEquals", Arn, false),
    ("ArnNotEquals", Arn, true),
    ("ArnLike", Arn, false),
    ("ArnNotLike", Arn, true),
    ("Bool", Bool, false),
    ("IpAddress", Ip, false),
    ("NotIpAddress", Ip, true),
    ("NumericEquals", Number { less: false, equal: true, greater: false }, false),
    ("NumericNotEquals", Number { less: false, equal: true, greater: false }, true),
    ("NumericLessThan", Number { less: true, equal: false, greater: false }, false),
    ("NumericLessThanEquals", Number { less: true, equal: true, greater: false }, false),
    ("NumericGreaterThan", Number { less: false, equal: false, greater: true }, false),
    ("NumericGreaterThanEquals", Number { less: false, equal: true, greater: true }, false),
    ("DateEquals", Date { less: false, equal: true, greater: false }, false),
    ("DateNotEquals", Date { less: false, equal: true, greater: false }, true),
    ("DateLessThan", Date { less: true, equal: false, greater: false }, false),
    ("DateLessThanEquals", Date { less: true, equal: true, greater: false }, false),
    ("DateGreaterThan", Date { less: false, equal: false, greater: true }, false),
    ("DateGreaterThanEquals", Date { less: false, equal: true, greater: true }, false),
    ("Null", Null, false),
];

/// A value of a condition, as it was written and with what its variables stand for.
pub(super) struct Wanted<'a> {
    pub(super) text: &'a str,
    pub(super) pieces: Cow<'a, [Piece]>,
}

impl Compare {
    /// May its values have variables?
    pub(super) fn is_text(self) -> bool {
        matches!(self, Equals | EqualsIgnoreCase | Like | Arn)
    }

    /// Is that a value of its kind?
    pub(super) fn is_readable(self, value: &str) -> bool {
        match self {
            Ip => block(value).is_some(),
            Bool | Null => ["true", "false"].iter().any(|known| value.eq_ignore_ascii_case(known)),
            Number { .. } => value.parse::<f64>().is_ok(),
            Date { .. } => seconds(value).is_some(),
            Equals | EqualsIgnoreCase | Like | Arn => true,
        }
    }

    pub(super) fn fits(self, found: &str, Wanted { text: wanted, pieces }: &Wanted<'_>) -> bool {
        let ordered = |order: Option<std::cmp::Ordering>, less, equal, greater| match order {
            Some(std::cmp::Ordering::Less) => less,
            Some(std::cmp::Ordering::Equal) => equal,
            Some(std::cmp::Ordering::Greater) => greater,
            None => false,
        };
        match self {
            Equals => found == plain(pieces),
            EqualsIgnoreCase => found.to_lowercase() == plain(pieces).to_lowercase(),
            Bool => found.eq_ignore_ascii_case(wanted),
            Like => like(pieces, found),
            Arn => like_arn(pieces, found),
            Ip => found.parse().is_ok_and(|address| within(address, wanted)),
            Number { less, equal, greater } => {
                let pair = found.parse::<f64>().ok().zip(wanted.parse::<f64>().ok());
                ordered(pair.and_then(|(found, wanted)| found.partial_cmp(&wanted)), less, equal, greater)
            }
            Date { less, equal, greater } => {
                let pair = seconds(found).zip(seconds(wanted));
                ordered(pair.and_then(|(found, wanted)| found.partial_cmp(&wanted)), less, equal, greater)
            }
            Null => false,
        }
    }
}

/// Seconds since 1970 of a date, or of a number that is that already.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let long = if text.len() == "2030-01-01".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = Timestamp::parse(TimestampFormat::DateTime, &long).ok()?;
    let mut out = Vec::new();
    time.format(TimestampFormat::EpochSeconds, &mut out).ok()?;
    String::from_utf8(out).ok()?.parse().ok()
}

/// `203.0.113.0/24`, or one address.
pub(super) fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        None => (text.parse::<IpAddr>().ok()?, None),
        Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn within(address: IpAddr, text: &str) -> bool {
    let Some((network, bits)) = block(text) else { return false };
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}
