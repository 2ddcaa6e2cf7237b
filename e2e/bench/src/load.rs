//! The load generator: blocking sockets, one thread per client, one buffer each, the same for every server.
//! Bodies are read into that buffer and dropped, or written from one shared slice: the generator costs little.
//! At a fixed rate latency counts from the moment at which a request was due, so that a stall hides nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// One read; large enough that system calls do not decide the result.
const READ_BYTES: usize = 256 << 10;
/// A response header of either server is a few hundred bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// A server that says nothing for this long has failed the run.
const SILENCE_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Get,
    /// The body, shared by all clients.
    Put(std::sync::Arc<Vec<u8>>),
    Delete,
}

impl Verb {
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put(_) => "PUT",
            Self::Delete => "DELETE",
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Get | Self::Delete => &[],
            Self::Put(body) => body,
        }
    }
}

/// How often, and in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each client goes through all targets again and again, as fast as it can.
    Peak,
    /// As above, this many requests per second of all clients together.
    Rate(f64),
    /// Each target once, by whichever client is free; ends when all are done.
    Once,
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) server: SocketAddr,
    pub(crate) verb: Verb,
    /// Paths, with their queries.
    pub(crate) targets: Vec<String>,
    pub(crate) body_bytes: u64,
    pub(crate) clients: usize,
    pub(crate) length: Duration,
    pub(crate) pace: Pace,
}

/// What one run of a load did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Sorted, of all requests.
    pub(crate) latency_us: Vec<u64>,
}

impl Done {
    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    pub(crate) fn percentile_us(&self, percent: usize) -> u64 {
        let last = self.latency_us.len().saturating_sub(1);
        self.latency_us.get(last * percent / 100).copied().unwrap_or(0)
    }
}

/// Runs the load and waits for all clients; a single wrong answer fails it.
pub(crate) fn run(load: &Load) -> Result<Done> {
    let start = Instant::now();
    let taken = AtomicUsize::new(0);
    let results: Vec<Result<Vec<u64>>> = std::thread::scope(|scope| {
        let turns = |index| Turns { load, index, taken: &taken, start };
        let clients: Vec<_> =
            (0..load.clients).map(turns).map(|turns| scope.spawn(move || client(&turns))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(lost()))).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut latency_us = Vec::new();
    for result in results {
        latency_us.extend(result?);
    }
    latency_us.sort_unstable();
    let requests = latency_us.len() as u64;
    Ok(Done { requests, bytes: requests * load.body_bytes, seconds, latency_us })
}

/// What one client does next, and since when its latency counts.
#[derive(Debug)]
struct Turns<'a> {
    load: &'a Load,
    index: usize,
    taken: &'a AtomicUsize,
    start: Instant,
}

impl<'a> Turns<'a> {
    fn next(&self, turn: usize) -> Option<(&'a str, Instant)> {
        let load = self.load;
        let target = match load.pace {
            Pace::Once => load.targets.get(self.taken.fetch_add(1, Ordering::Relaxed)),
            Pace::Peak | Pace::Rate(_) => load.targets.get((self.index + turn) % load.targets.len().max(1)),
        }?;
        let due = match load.pace {
            Pace::Rate(per_second) => {
                let nth = (turn * load.clients + self.index) as f64;
                let due = self.start + Duration::from_secs_f64(nth / per_second.max(0.01));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due
            }
            Pace::Peak | Pace::Once => Instant::now(),
        };
        (due < self.start + load.length).then_some((target.as_str(), due))
    }
}

fn lost() -> Error {
    Error::Wrong("a client thread of the generator panicked".to_owned())
}

/// One keep-alive connection until there is nothing to do. Gives the latency of every request.
fn client(turns: &Turns<'_>) -> Result<Vec<u64>> {
    let load = turns.load;
    let mut connection = Connection::open(load.server)?;
    let mut latency_us = Vec::with_capacity(1 << 16);
    while let Some((target, due)) = turns.next(latency_us.len()) {
        connection.exchange(&load.verb, target, load.body_bytes)?;
        latency_us.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(latency_us)
}

/// One request on its own connection: preparing and checking, not measuring.
pub(crate) fn once(server: SocketAddr, verb: &Verb, path: &str, body_bytes: u64) -> Result<()> {
    Connection::open(server)?.exchange(verb, path, body_bytes)
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    server: SocketAddr,
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(server).map_err(Error::io(format!("connect to {server}")))?;
        let set = |done: std::io::Result<()>| done.map_err(Error::io("set up a client's socket"));
        set(socket.set_nodelay(true))?;
        set(socket.set_read_timeout(Some(SILENCE_MAX)))?;
        set(socket.set_write_timeout(Some(SILENCE_MAX)))?;
        Ok(Self { socket, buffer: vec![0; READ_BYTES], server })
    }

    /// Keeps the connection without the buffer.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    pub(crate) fn exchange(&mut self, verb: &Verb, path: &str, body_bytes: u64) -> Result<()> {
        self.exchange_with(verb, path, body_bytes, "")
    }

    /// With more headers, each with its line end.
    pub(crate) fn exchange_with(
        &mut self,
        verb: &Verb,
        path: &str,
        body_bytes: u64,
        headers: &str,
    ) -> Result<()> {
        let about = |what: &str| Error::io(format!("{what} {path} of {}", self.server));
        let (name, body, server) = (verb.method(), verb.body(), self.server);
        let length = if matches!(verb, Verb::Put(_)) {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            String::new()
        };
        let head = format!("{name} {path} HTTP/1.1\r\nHost: {server}\r\n{length}{headers}\r\n");
        self.socket.write_all(head.as_bytes()).map_err(about("ask for"))?;
        self.socket.write_all(body).map_err(about("send"))?;
        let got = self.answer(path)?;
        if matches!(verb, Verb::Get) && got != body_bytes {
            return Err(Error::Wrong(format!("GET {path} gave {got} bytes instead of {body_bytes}")));
        }
        Ok(())
    }

    /// Reads one answer to its end and gives the length of its body.
    fn answer(&mut self, path: &str) -> Result<u64> {
        let mut filled = 0;
        let header = loop {
            filled += self.read(filled, path)?;
            if let Some(header) = Header::parse(&self.buffer[..filled]) {
                break header;
            }
            if filled > HEADER_BYTES_MAX {
                return Err(Error::Wrong(format!("the answer to {path} has no end of header")));
            }
        };
        if !(200..300).contains(&header.status) {
            let text = String::from_utf8_lossy(&self.buffer[..filled.min(600)]).into_owned();
            return Err(Error::Wrong(format!("{path} of {} answered: {text}", self.server)));
        }
        let mut left = header.body_bytes.saturating_sub((filled - header.length) as u64);
        while left > 0 {
            left = left.saturating_sub(self.read(0, path)? as u64);
        }
        Ok(header.body_bytes)
    }

    fn read(&mut self, from: usize, path: &str) -> Result<usize> {
        match self
            .socket
            .read(&mut self.buffer[from..])
            .map_err(Error::io(format!("read {path} of {}", self.server)))?
        {
            0 => Err(Error::Wrong(format!("{} closed the connection in the middle of {path}", self.server))),
            count => Ok(count),
        }
    }
}

/// The three facts of a response header that we need.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    status: u16,
    length: usize,
    body_bytes: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).take(HEADER_BYTES_MAX).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let length_of = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        };
        Some(Self { status, length: end + 4, body_bytes: text.lines().find_map(length_of).unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_found_only_when_it_is_whole() {
        assert_eq!(Header::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), None);
        let whole = Header::parse(b"HTTP/1.1 206 Partial\r\ncontent-LENGTH:  5\r\n\r\nhello");
        assert_eq!(whole, Some(Header { status: 206, length: 44, body_bytes: 5 }));
    }

    #[test]
    fn short_body_fails_the_load() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let server = listener.local_addr().expect("address");
        let answer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("client");
            let _ = socket.read(&mut [0; 1024]);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").expect("answer");
        });
        let error = once(server, &Verb::Get, "/b/k", 4).expect_err("3 of 4 bytes");
        assert!(error.to_string().contains("gave 3 bytes instead of 4"), "{error}");
        answer.join().expect("server");
    }
}
