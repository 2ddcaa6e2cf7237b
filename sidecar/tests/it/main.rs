//! The sidecar from outside: the real binary with a real engine, spoken to over real sockets.

#[cfg(test)]
mod bulk;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod etags;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod heap;
#[cfg(test)]
mod http;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod matching;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod openness;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod process;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod signer;
#[cfg(test)]
mod simple;
#[cfg(test)]
mod spare;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod versions;
