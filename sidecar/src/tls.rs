//! TLS of the client port: a certificate and its key from two files, read again when they change. A connection keeps
//! the pair that it began with; files that do not fit together leave the last good pair in force.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::io::Caller;
use crate::metrics::CERTIFICATES;

/// A renewed Secret reaches the mount within a minute; looking more often than this gains nothing.
pub const RELOAD_EVERY: Duration = Duration::from_secs(10);
/// Certificates of one chain: leaf, a few intermediates. More is a mistake, and every handshake would send it.
const CHAIN_MAX: usize = 10;

/// Where the pair is.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM: the chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} holds no usable PEM")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{path} holds {count} certificates: 1 to {CHAIN_MAX} make a chain")]
    Chain { path: PathBuf, count: usize },
    #[error("use the certificate with the key")]
    Pair(#[from] rustls::Error),
}

/// What new connections are given.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The pair in use, and what makes connections of it.
pub struct Tls {
    files: Files,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let current = Arc::new(Current(RwLock::new(Arc::new(pair(&read(&files)?, &files)?))));
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Looks at the files again and again.
    pub async fn follow(&self, every: Duration) {
        let mut known = read(&self.files).ok();
        loop {
            tokio::time::sleep(every).await;
            let texts = match read(&self.files) {
                Ok(texts) if known.as_ref() == Some(&texts) => continue,
                Ok(texts) => texts,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "read the certificate again");
                    continue;
                }
            };
            // The two files of a Secret change at once; those of a folder may not: then the next look has both.
            match pair(&texts, &self.files) {
                Ok(new) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    CERTIFICATES.with_label_values(&["used"]).inc();
                    tracing::info!("a new certificate is in use");
                }
                Err(error) => {
                    CERTIFICATES.with_label_values(&["refused"]).inc();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the last certificate stays in use"
                    );
                }
            }
            known = Some(texts);
        }
    }

    /// The handshake; the caller bounds its time.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Wire> {
        self.acceptor.accept(stream).await.map(|stream| Wire::Tls(Box::new(stream)))
    }
}

/// Certificate and key, as the files have them.
type Texts = (Vec<u8>, Vec<u8>);

fn read(files: &Files) -> Result<Texts, TlsError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    Ok((read(&files.certificate)?, read(&files.key)?))
}

fn pair((certificate, key): &Texts, files: &Files) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .take(CHAIN_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(pem(&files.certificate))?;
    if chain.is_empty() || chain.len() > CHAIN_MAX {
        return Err(TlsError::Chain { path: files.certificate.clone(), count: chain.len() });
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem(&files.key))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

/// A connection as it comes from its port: bare, or under TLS.
#[derive(Debug)]
pub enum Wire {
    Bare(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Who is at the other end.
    pub fn caller(&self) -> Caller {
        let (stream, secure, tls_version) = match self {
            Self::Bare(stream) => (stream, false, None),
            Self::Tls(stream) => {
                let (stream, session) = stream.get_ref();
                (stream, true, session.protocol_version().and_then(version))
            }
        };
        Caller { address: stream.peer_addr().ok().map(|address| address.ip()), secure, tls_version }
    }
}

fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Bare(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
