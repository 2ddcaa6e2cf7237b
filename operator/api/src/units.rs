//! Quantities and periods as people write them. They stay strings in the object, so that one bad value names
//! its field instead of breaking the watch; `parse` is called once, in validation.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A size in bytes: `512Mi`, `1Gi`, `1.5G`, `1048576`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub String);

/// CPU: `2`, `0.5` or `500m`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Cpu(pub String);

/// A length of time: `500ms`, `90s`, `15m`, `6h`, `1d`; a bare number means seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Period(pub String);

/// Why a text is not the unit that its field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub text: String,
    pub want: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.text, self.want)
    }
}

impl std::error::Error for Malformed {}

const BYTES_UNITS: &[(&str, u128)] = &[
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];
/// `ms` before `m` and `s`: the first suffix that matches wins.
const PERIOD_UNITS: &[(&str, u128)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// More digits after the point than any quantity needs; keeps the arithmetic inside 128 bits.
const FRACTION_DIGITS_MAX: usize = 9;

impl Bytes {
    pub fn parse(&self) -> Result<u64, Malformed> {
        scaled(&self.0, BYTES_UNITS, 1)
            .ok_or_else(|| Malformed { text: self.0.clone(), want: "a size such as 512Mi or 1Gi" })
    }
}

impl Cpu {
    /// Thousandths of a core.
    pub fn parse_millis(&self) -> Result<u64, Malformed> {
        scaled(&self.0, &[("m", 1)], 1_000)
            .ok_or_else(|| Malformed { text: self.0.clone(), want: "a CPU amount such as 500m or 2" })
    }
}

impl Period {
    pub fn parse_millis(&self) -> Result<u64, Malformed> {
        scaled(&self.0, PERIOD_UNITS, 1_000)
            .ok_or_else(|| Malformed { text: self.0.clone(), want: "a period such as 90s, 15m or 6h" })
    }
}

/// `12.5Mi` → number × factor; `bare` is the factor of a number without a unit.
fn scaled(text: &str, units: &[(&str, u128)], bare: u128) -> Option<u64> {
    let found = units.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = found.unwrap_or((text, bare));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let dot_without_digits = number.contains('.') && fraction.is_empty();
    if whole.is_empty()
        || whole.len() > 20
        || dot_without_digits
        || fraction.len() > FRACTION_DIGITS_MAX
        || !digits(whole)
        || !digits(fraction)
    {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let value = whole.checked_mul(factor)?.checked_add(fraction * factor / scale)?;
    u64::try_from(value).ok()
}

/// Kubernetes clients write numbers for numbers: `cpu: 2`.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Integer(i64),
    Number(f64),
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match TextOrNumber::deserialize(deserializer)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Integer(number) => number.to_string(),
        TextOrNumber::Number(number) => number.to_string(),
    })
}

macro_rules! unit {
    ($name:ident, $schema:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text(deserializer).map(Self)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

unit!(
    Bytes,
    json_schema!({ "type": "string", "maxLength": 24,
        "pattern": "^[0-9]{1,15}(\\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)?$" })
);
unit!(
    Cpu,
    json_schema!({ "x-kubernetes-int-or-string": true,
        "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9}|m)?$" })
);
unit!(Period, json_schema!({ "type": "string", "maxLength": 12, "pattern": "^[0-9]{1,9}(ms|s|m|h|d)?$" }));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_every_unit() {
        let check =
            |text: &str, want: Option<u64>| assert_eq!(Bytes::from(text).parse().ok(), want, "{text}");
        check("0", Some(0));
        check("512Mi", Some(512 << 20));
        check("1.5Gi", Some(3 << 29));
        check("2k", Some(2_000));
        check("1.25G", Some(1_250_000_000));
        check("9Ti", Some(9 << 40));
        for bad in ["", "Mi", "1.", "-1", "1 Gi", "1Gib", "1e3", "99999999999999999999T"] {
            check(bad, None);
        }
    }

    #[test]
    fn periods_in_every_unit() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(Period::from(text).parse_millis().ok(), want, "{text}")
        };
        check("500ms", Some(500));
        check("90s", Some(90_000));
        check("90", Some(90_000));
        check("15m", Some(900_000));
        check("6h", Some(21_600_000));
        check("1d", Some(86_400_000));
        check("1w", None);
    }

    #[test]
    fn cpu_as_cores_or_millis() {
        let check =
            |text: &str, want: Option<u64>| assert_eq!(Cpu::from(text).parse_millis().ok(), want, "{text}");
        check("2", Some(2_000));
        check("0.5", Some(500));
        check("250m", Some(250));
        check("x", None);
    }

    #[test]
    fn numbers_are_read_as_text() {
        let cpu: Cpu = serde_json::from_str("2").expect("an integer is a CPU amount");
        assert_eq!(cpu, Cpu::from("2"));
        assert_eq!(serde_json::to_string(&cpu).expect("serialises"), "\"2\"");
    }
}
