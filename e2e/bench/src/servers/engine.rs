//! The engine itself: `redis-benchmark` on it, values written by hand, and what it says of its memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::program;
use crate::{Error, Result};

/// A value is written in pieces: one command of 50 MB in one write would double it in the socket.
const PIECE_BYTES: usize = 1 << 20;

/// One connection with commands one after the other.
#[derive(Debug)]
pub(crate) struct Engine {
    stream: BufReader<UnixStream>,
}

impl Engine {
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(Error::io("connect to the engine"))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// SET, whatever the length.
    pub(crate) fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len()).into_bytes();
        self.write(&head)?;
        for piece in value.chunks(PIECE_BYTES) {
            self.write(piece)?;
        }
        self.write(b"\r\n")?;
        let answer = self.line()?;
        if answer == "+OK" { Ok(()) } else { Err(Error::Wrong(format!("SET {key}: {answer}"))) }
    }

    pub(crate) fn unlink(&mut self, key: &str) -> Result<()> {
        self.write(format!("UNLINK {key}\r\n").as_bytes())?;
        self.line().map(drop)
    }

    /// A figure of INFO.
    pub(crate) fn info(&mut self, section: &str, name: &str) -> Result<u64> {
        self.write(format!("INFO {section}\r\n").as_bytes())?;
        let head = self.line()?;
        let length: usize = head.trim_start_matches('$').parse().unwrap_or(0);
        let mut text = vec![0; length + 2];
        self.stream.read_exact(&mut text).map_err(Error::io("read INFO"))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| Error::Wrong(format!("INFO {section} has no {name}")))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).map_err(Error::io("write to the engine"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(Error::io("read the engine's answer"))?;
        Ok(line.trim_end().to_owned())
    }
}

/// Name that `redis-benchmark -r` gives to its key of this number.
pub(crate) fn benchmark_key(number: usize) -> String {
    format!("key:{number:012}")
}

/// One line of `redis-benchmark --csv`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Direct {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// What one run of `redis-benchmark` is to do; `test` is `get` or `set`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) test: &'a str,
    pub(crate) bytes: u64,
    pub(crate) keys: usize,
    pub(crate) clients: usize,
    pub(crate) requests: u64,
}

pub(crate) fn redis_benchmark(run: &Run<'_>) -> Result<Direct> {
    let mut command = Command::new(program("redis-benchmark"));
    command.arg("-s").arg(run.socket).args(["-t", run.test, "--csv", "-P", "1"]);
    command.args(["-d", &run.bytes.to_string(), "-r", &run.keys.to_string()]);
    command.args(["-c", &run.clients.to_string(), "-n", &run.requests.to_string()]);
    let output = command.stdin(Stdio::null()).output().map_err(Error::io("run redis-benchmark"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_csv(&text, run.test).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        Error::Wrong(format!("redis-benchmark -t {} said: {text}{errors}", run.test))
    })
}

fn parse_csv(text: &str, test: &str) -> Option<Direct> {
    let wanted = format!("\"{}\"", test.to_uppercase());
    let row = text.lines().find(|line| line.starts_with(&wanted))?;
    let number = |index: usize| row.split(',').nth(index)?.trim_matches('"').parse::<f64>().ok();
    let micros = |index| number(index).map(|ms| (ms * 1000.0) as u64);
    Some(Direct { requests_per_second: number(1)?, p50_us: micros(4)?, p99_us: micros(6)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_of_the_test_is_found_in_the_csv() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\"SET\",\"19880.72\",\"0.389\",\"0.080\",\"0.391\",\"0.503\",\"0.615\",\"1.335\"\n";
        let direct = parse_csv(csv, "set").expect("a row for SET");
        assert_eq!((direct.p50_us, direct.p99_us), (391, 615));
        assert!((direct.requests_per_second - 19_880.72).abs() < 0.001);
        assert!(parse_csv(csv, "get").is_none(), "no row for GET");
    }
}
