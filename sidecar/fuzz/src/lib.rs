//! Fuzz targets for every parser that reads bytes from outside. Each is a plain function over bytes, fit for libFuzzer;
//! what runs here is mutation of a seed corpus without feedback from coverage, since a stable compiler has none.
//! A target fails by a panic: its own, or that of an assertion about what it read.

pub mod drive;
pub mod mutate;
mod parsers;
mod s3;
mod s3_edges;

/// Longest input tried: twice the largest header block that a client may send us matters, more only repeats.
pub const INPUT_BYTES_MAX: usize = 8 << 10;

/// One parser, its seeds, and what must hold for any input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// One seed a line; `\\r`, `\\n`, `\\t`, `\\\\` and `\\xNN` stand for bytes.
    corpus: &'static str,
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:literal => $run:path),+ $(,)?) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target {
            name: $name,
            corpus: include_str!(concat!("../corpus/", $name, ".txt")),
            run: $run,
        }),+];
    };
}

targets! {
    "resp" => parsers::resp,
    "range" => parsers::range,
    "preconditions" => parsers::preconditions,
    "keys" => parsers::keys,
    "record" => parsers::record,
    "manifest" => parsers::manifest,
    "part_list" => parsers::part_list,
    "attributes" => parsers::attributes,
    "packed" => parsers::packed,
    "tar" => parsers::tar,
    "entries" => parsers::entries,
    "lifecycle" => parsers::lifecycle,
    "policy" => parsers::policy,
    "host" => s3_edges::host,
    "form" => s3_edges::form,
    "form_policy" => s3_edges::form_policy,
    "credentials" => parsers::credentials,
    "query" => parsers::query,
    "pattern" => parsers::pattern,
    "users" => parsers::users,
    "chunked_signed" => s3::chunked_signed,
    "chunked_trailer" => s3::chunked_trailer,
    "post_policy" => s3::post_policy,
    "post_form" => s3::post_form,
    "xml" => s3::xml,
}

impl Target {
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        self.corpus.lines().filter(|line| !line.is_empty()).map(unescaped).collect()
    }
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (byte, used) = match (byte, after.first()) {
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'x')) => {
                let digits = after.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                (digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0), 4)
            }
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = rest.get(used..).unwrap_or_default();
    }
    bytes
}

/// For people: the line of a corpus that stands for these bytes.
pub fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_corpus_stands_for_its_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unescaped(&escaped(&bytes)), bytes);
    }
}
