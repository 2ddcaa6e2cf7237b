//! A stream to the engine over a unix socket or TCP, with vectored reads and writes that tokio's traits do not offer.

use std::{
    io::{self, IoSlice, IoSliceMut},
    time::Duration,
};

use tokio::net::{TcpStream, UnixStream};

use crate::EngineAddress;

/// Room for two chunks each way: with the system's default the engine and we would wait for each other four times
/// per chunk.
const SOCKET_BUFFER_BYTES: usize = 512 << 10;

#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) async fn connect(address: &EngineAddress, timeout: Duration) -> io::Result<Self> {
        let connecting = async {
            match address {
                EngineAddress::Unix(path) => {
                    let stream = UnixStream::connect(path).await?;
                    widen(&socket2::SockRef::from(&stream));
                    Ok(Self::Unix(stream))
                }
                EngineAddress::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(Self::Tcp(stream))
                }
            }
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// One read into `parts`; 0: the engine closed the connection.
    pub(crate) async fn read(&self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        loop {
            match self.try_read(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self {
                    Self::Unix(stream) => stream.readable().await?,
                    Self::Tcp(stream) => stream.readable().await?,
                },
                done => return done,
            }
        }
    }

    pub(crate) fn try_read(&self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read_vectored(parts),
            Self::Tcp(stream) => stream.try_read_vectored(parts),
        }
    }

    /// Writes everything, in as few calls as the kernel allows.
    pub(crate) async fn write_all(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let written = match self {
                Self::Unix(stream) => stream.try_write_vectored(parts),
                Self::Tcp(stream) => stream.try_write_vectored(parts),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self {
                    Self::Unix(stream) => stream.writable().await?,
                    Self::Tcp(stream) => stream.writable().await?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The kernel may grant less: then it is slower, not wrong.
fn widen(socket: &socket2::SockRef<'_>) {
    for result in
        [socket.set_send_buffer_size(SOCKET_BUFFER_BYTES), socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)]
    {
        if let Err(error) = result {
            tracing::debug!(%error, "set socket buffer size");
        }
    }
}
