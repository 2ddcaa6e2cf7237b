//! Entries of a tar archive as they stream by: ustar headers, and the extensions that today's programs write for long
//! names and large files (PAX records, GNU long names). Bodies do not pass here.

/// Headers, and what bodies are padded to.
pub const BLOCK_BYTES: usize = 512;
/// Records of one entry: a name of 1,024 bytes and a few attributes fit many times.
pub const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// What a header announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    /// Bytes that follow, without the padding.
    pub size: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// PAX records for the next entry.
    Extension,
    /// PAX records for all entries that follow: nothing that names or sizes one.
    GlobalExtension,
    /// GNU: the next entry's name.
    LongName,
    /// GNU: the next entry's target, which only links have.
    LongLink,
    /// A link, a device, a sparse file.
    Other,
}

/// What records say of the next entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    #[error("a header of the archive does not meet its checksum: is it a tar archive, not compressed?")]
    Checksum,
    #[error("a size in the archive cannot be read")]
    Number,
    #[error("extended attributes in the archive cannot be read")]
    Records,
}

/// Bytes behind a body up to the next header.
pub fn padding(size: u64) -> u64 {
    (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64
}

/// Reads a header. `None`: a block of zeros, the archive ends.
pub fn header(block: &[u8; BLOCK_BYTES]) -> Result<Option<Entry>, TarError> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (sum, rest) = (number(&block[148..156]), block[..148].iter().chain(&block[156..]));
    // The sum is taken with blanks in its own place.
    let computed = rest.map(|byte| u64::from(*byte)).sum::<u64>() + 8 * u64::from(b' ');
    if sum != Some(computed) {
        return Err(TarError::Checksum);
    }
    let mut name = text(&block[..100]).to_vec();
    // GNU's own magic is another, and it keeps other things there.
    let prefix = text(&block[345..500]);
    if block[257..263] == *b"ustar\0" && !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let kind = match block[156] {
        b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Folder,
        b'0' | 0 | b'7' => Kind::File,
        b'5' => Kind::Folder,
        b'x' => Kind::Extension,
        b'g' => Kind::GlobalExtension,
        b'L' => Kind::LongName,
        b'K' => Kind::LongLink,
        _ => Kind::Other,
    };
    // Links, devices and folders may have a size, but no body.
    let bodyless = matches!(block[156], b'1'..=b'6');
    let size = if bodyless { 0 } else { number(&block[124..136]).ok_or(TarError::Number)? };
    Ok(Some(Entry { name, size, kind }))
}

/// Adds what PAX records say: `LENGTH KEY=VALUE\n`, one behind the other.
pub fn records(mut bytes: &[u8], into: &mut Extended) -> Result<(), TarError> {
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').ok_or(TarError::Records)?;
        let length = decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok());
        let record = length.and_then(|length| bytes.get(blank + 1..length)).ok_or(TarError::Records)?;
        let record = record.strip_suffix(b"\n").ok_or(TarError::Records)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::Records)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => into.name = Some(value.to_vec()),
            b"size" => into.size = Some(decimal(value).ok_or(TarError::Number)?),
            _ => {}
        }
        bytes = &bytes[blank + 1 + record.len() + 1..];
    }
    Ok(())
}

/// A name as GNU's records hold it: up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// Octal digits among blanks and NULs; or, for what is larger, the number itself behind a first byte of 128.
fn number(field: &[u8]) -> Option<u64> {
    if field.first() == Some(&0x80) {
        let (high, low) = field.split_at(field.len().checked_sub(8)?);
        let fits = high.iter().skip(1).all(|byte| *byte == 0);
        return Some(u64::from_be_bytes(low.try_into().ok()?)).filter(|_| fits);
    }
    let digits = std::str::from_utf8(text(field)).ok()?.trim_matches(' ');
    let octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    match digits {
        "" => Some(0),
        digits if octal => u64::from_str_radix(digits, 8).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(name: &str, size: &[u8], kind: u8) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size);
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8; BLOCK_BYTES]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn check(block: &[u8; BLOCK_BYTES], want: Result<Option<(&str, u64, Kind)>, TarError>) {
        let got = header(block).map(|entry| entry.map(|entry| (entry.name, entry.size, entry.kind)));
        let want = want.map(|want| want.map(|(name, size, kind)| (name.as_bytes().to_vec(), size, kind)));
        assert_eq!(got, want);
    }

    #[test]
    fn headers_name_size_and_kind() {
        check(&block("a/b", b"00000001750\0", b'0'), Ok(Some(("a/b", 1000, Kind::File))));
        check(&block("a/", b"00000000000\0", b'5'), Ok(Some(("a/", 0, Kind::Folder))));
        check(&block("old/", b"0\0", 0), Ok(Some(("old/", 0, Kind::Folder))));
        check(&block("link", b"00000001750\0", b'2'), Ok(Some(("link", 0, Kind::Other))));
        check(&block("long", b"    1750 ", b'L'), Ok(Some(("long", 1000, Kind::LongName))));
        let large = [&[0x80, 0, 0, 0][..], &(9_u64 << 33).to_be_bytes()].concat();
        check(&block("large", &large, b'0'), Ok(Some(("large", 9 << 33, Kind::File))));
        check(&[0; BLOCK_BYTES], Ok(None));
        let mut prefixed = block("name", b"1\0", b'0');
        prefixed[345..351].copy_from_slice(b"folder");
        seal(&mut prefixed);
        check(&prefixed, Ok(Some(("folder/name", 1, Kind::File))));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut wrong = block("a", b"1\0", b'0');
        wrong[0] = b'b';
        check(&wrong, Err(TarError::Checksum));
        check(&[7; BLOCK_BYTES], Err(TarError::Checksum));
        check(&block("a", b"9\0", b'0'), Err(TarError::Number));
    }

    #[test]
    fn records_name_and_size() {
        let mut extended = Extended::default();
        records(b"11 path=a/b\n20 mtime=1700000000.5\n13 size=1000\n", &mut extended)
            .expect_err("a wrong length");
        let mut extended = Extended::default();
        records(b"12 path=a/b\n22 mtime=1700000000.5\n13 size=1000\n", &mut extended).expect("good records");
        assert_eq!(extended, Extended { name: Some(b"a/b".to_vec()), size: Some(1000) });
        for wrong in [&b"x path=a\n"[..], b"99 path=a\n", b"9 path=ab\n", b"8 pathab\n", b"12 path=a/b\n1"] {
            assert!(records(wrong, &mut Extended::default()).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn bodies_are_padded_to_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
        assert_eq!(padding(u64::MAX), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut block = [0; BLOCK_BYTES];
            for (to, from) in block.iter_mut().zip(&bytes) {
                *to = *from;
            }
            seal(&mut block);
            let _ = header(&block);
            let _ = records(&bytes, &mut Extended::default());
        }
    }
}
