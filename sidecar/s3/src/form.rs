//! Browser forms (`multipart/form-data`): their fields, up to the file; then the file's bytes, up to the boundary. What
//! comes behind the file is nobody's business, as at AWS. Pure: bytes in, bytes out.

mod policy;
mod signature;

pub use policy::{PolicyProblem, SizeRange, check};
pub use signature::{Claim, claim};

/// Fields of one form: S3 takes as many as fit, we count them.
pub const FIELDS_MAX: usize = 1_000;
/// RFC 2046.
const BOUNDARY_BYTES_MAX: usize = 70;

/// A field's name in lower case, and its value.
pub type Field = (String, String);

/// Why bytes are no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    Malformed,
    #[error("Your POST request fields preceding the upload file were too large.")]
    TooLarge,
}

/// What stands before the bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub fields: Vec<Field>,
    /// As the browser calls it.
    pub file_name: String,
    /// Bytes of the file that came along.
    pub rest: Vec<u8>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The boundary that a Content-Type names.
pub fn boundary(content_type: &str) -> Option<String> {
    let parameters = content_type.split(';').skip(1).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let value = value.trim_matches('"');
    (1..=BOUNDARY_BYTES_MAX).contains(&value.len()).then(|| value.to_owned())
}

/// Reads a form up to its file.
#[derive(Debug)]
pub struct Reader {
    /// `--boundary`
    mark: Vec<u8>,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Reader {
    pub fn new(boundary: &str, bytes_max: usize) -> Self {
        Self { mark: format!("--{boundary}").into_bytes(), bytes: Vec::new(), bytes_max }
    }

    /// `None`: the file has not begun yet.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Head>, FormError> {
        self.bytes.extend_from_slice(bytes);
        let head = self.head()?;
        let before = self.bytes.len() - head.as_ref().map_or(0, |head| head.rest.len());
        if before > self.bytes_max { Err(FormError::TooLarge) } else { Ok(head) }
    }

    fn head(&self) -> Result<Option<Head>, FormError> {
        let mut rest = self.bytes.as_slice();
        let Some(after) = rest.strip_prefix(self.mark.as_slice()) else {
            let early = rest.len() < self.mark.len() && self.mark.starts_with(rest);
            return if early { Ok(None) } else { Err(FormError::Malformed) };
        };
        rest = after;
        let mut fields = Vec::new();
        let end = [b"\r\n".as_slice(), &self.mark].concat();
        loop {
            let Some(part) = rest.strip_prefix(b"\r\n") else {
                // `--` ends the form: without a file, then.
                let early = rest.len() < 2;
                return if early { Ok(None) } else { Err(FormError::Malformed) };
            };
            let Some(at) = find(part, b"\r\n\r\n") else { return Ok(None) };
            let (lines, value) = (part.get(..at).unwrap_or_default(), part.get(at + 4..).unwrap_or_default());
            let (name, file_name) = disposition(lines).ok_or(FormError::Malformed)?;
            if name == "file" {
                let file_name = file_name.unwrap_or_default();
                return Ok(Some(Head { fields, file_name, rest: value.to_vec() }));
            }
            let Some(at) = find(value, &end) else { return Ok(None) };
            let text = String::from_utf8(value.get(..at).unwrap_or_default().to_vec());
            fields.push((name, text.map_err(|_| FormError::Malformed)?));
            if fields.len() > FIELDS_MAX {
                return Err(FormError::TooLarge);
            }
            rest = value.get(at + end.len()..).unwrap_or_default();
        }
    }

    /// The form ended. Was it one, without a file?
    pub fn ended(&self) -> bool {
        let last = [&self.mark, b"--".as_slice()].concat();
        find(&self.bytes, &last).is_some()
    }
}

/// Name, in lower case, and file name of a part.
fn disposition(lines: &[u8]) -> Option<(String, Option<String>)> {
    let lines = std::str::from_utf8(lines).ok()?;
    let (_, line) = lines
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))?;
    let name = parameter(line, "name")?;
    Some((name.to_ascii_lowercase(), parameter(line, "filename")))
}

/// `name="value"`, the value with `\"` and `%22` as browsers write quotes.
fn parameter(line: &str, wanted: &str) -> Option<String> {
    let mut rest = line.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut end = quoted.find('"')?;
                while quoted.get(..end)?.ends_with('\\') {
                    end += 1 + quoted.get(end + 1..)?.find('"')?;
                }
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => after
                .split_once(';')
                .map_or((after, ""), |(value, _)| (value, after.get(value.len()..).unwrap_or(""))),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim().replace("\\\"", "\"").replace("%22", "\""));
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// Where `wanted` begins.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let (first, _) = wanted.split_first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| byte == first)?;
        if bytes.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The bytes of the file, as they come, without the boundary.
#[derive(Debug)]
pub struct File {
    /// `\r\n--boundary`
    end: Vec<u8>,
    /// Bytes that could be the beginning of the end.
    held: Vec<u8>,
    ended: bool,
}

impl File {
    pub fn new(boundary: &str) -> Self {
        Self { end: format!("\r\n--{boundary}").into_bytes(), held: Vec::new(), ended: false }
    }

    /// Bytes that are the file's for certain.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        if let Some(at) = find(&all, &self.end) {
            self.ended = true;
            all.truncate(at);
            return all;
        }
        let longest = self.end.len().saturating_sub(1).min(all.len());
        let held = (1..=longest).rev().find(|count| {
            let tail = all.get(all.len() - count..).unwrap_or_default();
            self.end.starts_with(tail)
        });
        self.held = all.split_off(all.len() - held.unwrap_or(0));
        all
    }

    /// Has the end of the file come?
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--B\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n--B\r\n\
        content-disposition: form-data; name=x-amz-meta-a\r\n\r\n1\r\n2\r\n--B\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"f \\\"x\\\".txt\"\r\nContent-Type: text/plain\r\n\r\n\
        by\r\n--tes\r\n--B\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--B--\r\n";

    /// The form in pieces of this size: fields, file name, file.
    fn read(size: usize) -> (Vec<Field>, String, Vec<u8>) {
        let (mut reader, mut file) = (Reader::new("B", 1 << 10), File::new("B"));
        let (mut head, mut bytes) = (None, Vec::new());
        for piece in FORM.chunks(size) {
            match &head {
                None => {
                    head = reader.push(piece).expect("a form");
                    if let Some(head) = &head {
                        bytes.extend(file.push(&head.rest));
                    }
                }
                Some(_) => bytes.extend(file.push(piece)),
            }
        }
        assert!(file.ended(), "{size}");
        let head = head.expect("a file");
        (head.fields, head.file_name, bytes)
    }

    #[test]
    fn forms_are_read_however_they_are_cut() {
        for size in [1, 2, 3, 7, 50, 10_000] {
            let (fields, name, bytes) = read(size);
            let want = [("key", "a/${filename}"), ("x-amz-meta-a", "1\r\n2")];
            assert_eq!(fields, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
            assert_eq!((name.as_str(), bytes.as_slice()), ("f \"x\".txt", &b"by\r\n--tes"[..]), "{size}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let push = |bytes: &[u8]| Reader::new("B", 64).push(bytes);
        assert_eq!(push(b"junk"), Err(FormError::Malformed));
        assert_eq!(push(b"--B\r\nContent-Type: a/b\r\n\r\n"), Err(FormError::Malformed));
        assert_eq!(push(&[b"--B\r\n".as_slice(), &[b'a'; 64]].concat()), Err(FormError::TooLarge));
        assert_eq!(push(b"-"), Ok(None));
        let mut reader = Reader::new("B", 1 << 10);
        let field = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n--B--\r\n";
        assert_eq!((reader.push(field), reader.ended()), (Err(FormError::Malformed), true));
    }

    #[test]
    fn boundaries_are_found() {
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("multipart/form-data; charset=x; Boundary=ab").as_deref(), Some("ab"));
        assert_eq!(boundary("multipart/form-data"), None);
    }
}
