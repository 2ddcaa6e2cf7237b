//! One connection that carries payload: commands go out as headers plus the caller's `Bytes`, values come in by
//! exact-size reads into pooled buffers. Nothing is copied on the way.

use std::{
    io::{IoSlice, IoSliceMut},
    sync::Arc,
    time::Duration,
};

use blobstore_sidecar_runtime::{
    budget::Permit,
    pool::{Lease, Pool},
};

use super::{
    resp::{self, Outgoing, Parsed, Reply},
    socket::Socket,
};
use crate::{EngineAddress, EngineAuth, ErrorKind, StoreError, engine::errors, scripts};

/// First read of a value of unknown length: holds any header, and never more than the start of a record's head.
const HEADER_READ_BYTES: usize = 32;
/// Reads of small replies.
const REPLY_READ_BYTES: usize = 4096;
/// Largest value we ask for: a record, a chunk, the part list of 64 GiB. More is not ours.
const VALUE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Lane {
    socket: Socket,
    /// Bytes read and not yet used.
    left: Vec<u8>,
    /// For the next commands.
    pub(crate) scratch: Vec<u8>,
    outstanding: u32,
    broken: bool,
    client_id: i64,
    run_id: Arc<str>,
    timeout: Duration,
}

/// What is known about a value before it is read.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) len: usize,
    pub(crate) permit: Option<Permit>,
}

/// A value as it came.
#[derive(Debug)]
pub(crate) enum Value {
    Absent,
    Present(Lease),
    /// It is there and has another length than the record says.
    Wrong,
}

impl Lane {
    pub(crate) async fn connect(
        address: &EngineAddress,
        auth: Option<&EngineAuth>,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let socket = Socket::connect(address, timeout).await.map_err(|error| errors::io("connect", error))?;
        let mut lane = Self {
            socket,
            left: Vec::new(),
            scratch: Vec::new(),
            outstanding: 0,
            broken: false,
            client_id: 0,
            run_id: Arc::from(""),
            timeout,
        };
        let mut hello = Outgoing::default();
        if let Some(auth) = auth {
            hello.command(&[b"AUTH", auth.user.as_bytes(), auth.password.as_bytes()]);
        }
        hello.command(&[b"CLIENT", b"SETNAME", b"blobstore-lane"]);
        for script in scripts::of_lanes() {
            hello.command(&[b"SCRIPT", b"LOAD", script.text.as_bytes()]);
        }
        let prepared = hello.replies;
        hello.command(&[b"CLIENT", b"ID"]);
        hello.command(&[b"INFO", b"server"]);
        lane.send(&mut hello).await?;
        for _ in 0..prepared {
            if let Reply::Error(text) = lane.reply().await? {
                return Err(errors::reply("prepare a lane", &text));
            }
        }
        if let Reply::Int(id) = lane.reply().await? {
            lane.client_id = id;
        }
        if let Reply::Bulk(info) = lane.reply().await? {
            let info = String::from_utf8_lossy(&info);
            let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
            lane.run_id = Arc::from(run_id.unwrap_or_default().trim());
        }
        Ok(lane)
    }

    /// The engine's name for this connection.
    pub(crate) fn client_id(&self) -> i64 {
        self.client_id
    }

    /// The run of the engine that this connection reaches.
    pub(crate) fn run_id(&self) -> &Arc<str> {
        &self.run_id
    }

    /// Fit for the next user.
    pub(crate) fn clean(&self) -> bool {
        !self.broken && self.outstanding == 0 && self.left.is_empty()
    }

    /// An idle lane must have nothing to read: a byte is a leftover, the end a dead engine.
    pub(crate) fn alive(&self) -> bool {
        let mut byte = [0];
        let read = self.socket.try_read(&mut [IoSliceMut::new(&mut byte)]);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Writes the commands. A call that is dropped half way leaves the lane broken.
    pub(crate) async fn send(&mut self, out: &mut Outgoing) -> Result<(), StoreError> {
        let replies = out.replies;
        let mut parts: Vec<IoSlice<'_>> = out.slices().map(IoSlice::new).collect();
        self.outstanding += replies;
        let was_broken = std::mem::replace(&mut self.broken, true);
        let written = tokio::time::timeout(self.timeout, self.socket.write_all(&mut parts)).await;
        match written {
            Ok(Ok(())) => {
                self.broken = was_broken;
                Ok(())
            }
            Ok(Err(error)) => Err(errors::io("write", error)),
            Err(_) => Err(errors::timeout("write")),
        }
    }

    /// The next reply, whole. For everything but payload.
    pub(crate) async fn reply(&mut self) -> Result<Reply, StoreError> {
        let read = tokio::time::timeout(self.timeout, self.read_reply()).await;
        let reply = read.unwrap_or_else(|_| Err(errors::timeout("read")));
        self.settle(reply)
    }

    /// The next reply, a value. With `expected` the header, the value and its end are read in one call.
    pub(crate) async fn value(
        &mut self,
        expected: Option<Expected>,
        pool: &Pool,
        name: &'static str,
    ) -> Result<Value, StoreError> {
        let timeout = self.timeout;
        let reading = async {
            match expected {
                Some(expected) if self.left.is_empty() => self.read_expected(expected, pool, name).await,
                _ => self.read_unknown(pool, name).await,
            }
        };
        let read = tokio::time::timeout(timeout, reading).await;
        let value = read.unwrap_or_else(|_| Err(errors::timeout("read")));
        self.settle(value)
    }

    fn settle<T>(&mut self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        match &read {
            Ok(_) => self.outstanding = self.outstanding.saturating_sub(1),
            Err(error) if matches!(error.kind, ErrorKind::EngineDown | ErrorKind::Protocol) => {
                self.broken = true
            }
            Err(_) => self.outstanding = self.outstanding.saturating_sub(1),
        }
        read
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), StoreError> {
        let from = self.left.len();
        self.left.resize(from + bytes, 0);
        let read =
            self.socket.read(&mut [IoSliceMut::new(self.left.get_mut(from..).unwrap_or_default())]).await;
        self.left.truncate(from + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(errors::closed()),
            Ok(_) => Ok(()),
            Err(error) => Err(errors::io("read", error)),
        }
    }

    async fn read_reply(&mut self) -> Result<Reply, StoreError> {
        loop {
            match resp::parse(&self.left) {
                Parsed::Whole(reply, len) => {
                    self.left.drain(..len);
                    return Ok(reply);
                }
                Parsed::More => self.fill(REPLY_READ_BYTES).await?,
                Parsed::Garbage => return Err(errors::garbage()),
            }
        }
    }

    async fn read_expected(
        &mut self,
        expected: Expected,
        pool: &Pool,
        name: &'static str,
    ) -> Result<Value, StoreError> {
        let header = format!("${}\r\n", expected.len);
        let header = header.as_bytes();
        let mut start = [0; HEADER_READ_BYTES];
        let mut end = [0; 2];
        let mut lease = pool.lease(expected.len, name, expected.permit);
        let (head, whole) = (header.len(), header.len() + expected.len + end.len());
        let mut got = 0;
        while got < whole {
            let read = {
                let start = start.get_mut(got.min(head)..head).unwrap_or_default();
                let from = got.saturating_sub(head).min(expected.len);
                let value = lease.as_mut().get_mut(from..).unwrap_or_default();
                let from = got.saturating_sub(head + expected.len).min(end.len());
                let end = end.get_mut(from..).unwrap_or_default();
                let mut parts = [IoSliceMut::new(start), IoSliceMut::new(value), IoSliceMut::new(end)];
                self.socket.read(&mut parts).await.map_err(|error| errors::io("read", error))?
            };
            if read == 0 {
                return Err(errors::closed());
            }
            got += read;
            let seen = got.min(head);
            if start.get(..seen) != header.get(..seen) {
                // An error, nil, or another length: what was read belongs to the general parser.
                self.left.extend_from_slice(start.get(..seen).unwrap_or_default());
                let value = got.saturating_sub(head).min(expected.len);
                self.left.extend_from_slice(lease.as_ref().get(..value).unwrap_or_default());
                let after = got.saturating_sub(head + expected.len);
                self.left.extend_from_slice(end.get(..after).unwrap_or_default());
                drop(lease);
                return self.read_other().await;
            }
        }
        if &end == b"\r\n" { Ok(Value::Present(lease)) } else { Err(errors::garbage()) }
    }

    /// A reply that is not the value we expected.
    async fn read_other(&mut self) -> Result<Value, StoreError> {
        match self.read_reply().await? {
            Reply::Nil => Ok(Value::Absent),
            Reply::Bulk(_) => Ok(Value::Wrong),
            Reply::Error(text) => Err(errors::reply("read a value", &text)),
            _ => Err(errors::garbage()),
        }
    }

    async fn read_unknown(&mut self, pool: &Pool, name: &'static str) -> Result<Value, StoreError> {
        let (len, header) = loop {
            match resp::bulk_header(&self.left) {
                Ok(Some(found)) => break found,
                Ok(None) => self.fill(HEADER_READ_BYTES).await?,
                Err(()) => return self.read_other().await,
            }
        };
        if len > VALUE_BYTES_MAX {
            return Err(errors::garbage());
        }
        let mut lease = pool.lease(len, name, None);
        let here = self.left.len().saturating_sub(header).min(len);
        if let (Some(to), Some(from)) = (lease.as_mut().get_mut(..here), self.left.get(header..header + here))
        {
            to.copy_from_slice(from);
        }
        self.left.drain(..header + here);
        let mut got = here;
        let mut end = [0; 2];
        let early = self.left.len().min(end.len());
        for (to, from) in end.iter_mut().zip(self.left.drain(..early)) {
            *to = from;
        }
        got += early;
        while got < len + end.len() {
            let read = {
                let value = lease.as_mut().get_mut(got.min(len)..).unwrap_or_default();
                let end = end.get_mut(got.saturating_sub(len)..).unwrap_or_default();
                let mut parts = [IoSliceMut::new(value), IoSliceMut::new(end)];
                self.socket.read(&mut parts).await.map_err(|error| errors::io("read", error))?
            };
            if read == 0 {
                return Err(errors::closed());
            }
            got += read;
        }
        if &end == b"\r\n" { Ok(Value::Present(lease)) } else { Err(errors::garbage()) }
    }
}
