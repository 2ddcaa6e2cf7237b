//! A small blocking HTTP/1.1 client that can also do what a good one never does: stop in the middle, lie, wait.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any bound of the server under test.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, read whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `code` of an error's JSON body.
    pub(crate) fn code(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON answer")
    }
}

/// One connection.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(16 << 10, stream) })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)
    }

    /// Request line and headers.
    pub(crate) fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.write(text.as_bytes())
    }

    /// Status and headers of the next answer, 100 included.
    pub(crate) fn read_head(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let line = self.line()?;
        answer.status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("not a status line: {line:?}"))
        })?;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(answer);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            answer.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next final answer, whole. `head`: it has no body whatever its headers say.
    pub(crate) fn read_answer(&mut self, head: bool) -> io::Result<Answer> {
        let mut answer = self.read_head()?;
        while answer.status == 100 {
            answer = self.read_head()?;
        }
        if head || answer.status == 204 || answer.status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            answer.body = self.read_chunked()?;
        } else if let Some(length) = answer.header("content-length").and_then(|value| value.parse().ok()) {
            answer.body = vec![0; length];
            self.reader.read_exact(&mut answer.body)?;
        } else {
            self.reader.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Reads and forgets `length` bytes of a body in small pieces; the client must not be what needs memory.
    pub(crate) fn discard(&mut self, mut length: u64, mut check: impl FnMut(&[u8])) -> io::Result<()> {
        while length > 0 {
            let piece = self.reader.fill_buf()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = piece.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            check(&piece[..count]);
            self.reader.consume(count);
            length -= count as u64;
        }
        Ok(())
    }

    /// True when the other side has closed; waits for it.
    pub(crate) fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn read_chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.read_chunk()?;
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The next chunk of an answer's body; the last one is empty.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut chunk = vec![0; length];
        self.reader.read_exact(&mut chunk)?;
        self.line()?;
        Ok(chunk)
    }
}

/// An address and the credentials to use there.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: (!token.is_empty()).then(|| token.to_owned()) }
    }

    /// Headers of a request on a connection of its own, credentials included.
    pub(crate) fn headers<'a>(
        &'a self,
        bearer: &'a str,
        more: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let mut headers = vec![("connection", "close")];
        if self.token.is_some() && !more.iter().any(|(name, _)| *name == "authorization") {
            headers.push(("authorization", bearer));
        }
        headers.extend_from_slice(more);
        headers
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_deref().unwrap_or_default())
    }

    /// One request with a body of known length, one answer.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = Connection::open(self.address)?;
        let (bearer, length) = (self.bearer(), body.len().to_string());
        let mut headers = self.headers(&bearer, more);
        if !body.is_empty() || method == "PUT" || method == "POST" {
            headers.push(("content-length", &length));
        }
        connection.head(method, path, &headers)?;
        // A refusal may arrive, and the connection end, before all of the body is out.
        let _ = connection.write(body);
        connection.read_answer(method == "HEAD")
    }

    pub(crate) fn send(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, more, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.send("PUT", path, &[], body)
    }
}
