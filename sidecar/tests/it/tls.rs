//! The client port under TLS: certificates made by openssl, a client that trusts one of them, and their renewal.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::Client;
use crate::process::{Dev, PATIENCE, TOKEN, pattern, wait_for};
use crate::signer::{Signed, sha256};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate of its own for 127.0.0.1, and its key.
fn make(folder: &Path) -> CertificateDer<'static> {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args("-subj /CN=blobs -keyout new.key -out new.crt".split(' '))
        // No authority: rustls takes none for a server.
        .args("-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE".split(' '))
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl is installed").success(), "a certificate");
    for file in ["crt", "key"] {
        std::fs::rename(folder.join(format!("new.{file}")), folder.join(format!("tls.{file}")))
            .expect("in place");
    }
    CertificateDer::from_pem_file(folder.join("tls.crt")).expect("a certificate")
}

fn start(folder: &Path) -> Dev {
    let file = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    Dev::start(&["--tls-certificate", &file("tls.crt"), "--tls-key", &file("tls.key")])
}

/// A connection of a client that trusts this certificate and no other.
fn connect(address: SocketAddr, trusted: &CertificateDer<'static>) -> io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(client, socket))
}

/// One request on a connection that stays open; the answer's status and body.
fn ask(stream: &mut Stream, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (head, body) = exchange(
        stream,
        &format!("{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {TOKEN}\r\n"),
        body,
    );
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body)
}

/// The answer's head, in lower case, and its body. `head`: all but the length.
fn exchange(stream: &mut Stream, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("the head goes out");
    stream.write_all(body).expect("the body goes out");
    stream.flush().expect("all of it");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).expect("text").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).expect("a body");
    (head, body)
}

#[test]
fn the_client_port_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = make(folder.path());
    let other = tempfile::tempdir().expect("a folder");
    let stranger = make(other.path());
    let dev = start(folder.path());
    let address = dev.client.address;
    let mut stream = connect(address, &trusted).expect("a handshake");
    let body = pattern(3 << 20, 1);
    assert_eq!(ask(&mut stream, "PUT", "/tls", b"").0, 200);
    assert_eq!(ask(&mut stream, "PUT", "/tls/large", &body).0, 200);
    let (status, got) = ask(&mut stream, "GET", "/tls/large", b"");
    assert!(status == 200 && got == body, "other bytes under {status}");

    assert!(connect(address, &stranger).is_err(), "whom the client does not trust it does not talk to");
    let plain = Client::new(address, TOKEN).try_send("GET", "/tls/large", &[], b"");
    assert!(plain.is_err(), "no word without TLS");
    wait_for("refused handshakes are counted", || {
        dev.metric("blobstore_sidecar_rejected_total{reason=\"handshake\"}") >= 2.0
    });
    assert_eq!(dev.admin.get("/readyz").status, 200, "the admin port has a port of its own");
    drop(stream);
    dev.stop();
}

/// The text between two others.
fn between(text: &str, before: &str, behind: &str) -> String {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(behind));
    found.unwrap_or_else(|| panic!("no {before} in {text}")).0.to_owned()
}

#[test]
fn locations_under_tls_are_https() {
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = make(folder.path());
    let dev = start(folder.path());
    let mut stream = connect(dev.client.address, &trusted).expect("a handshake");
    let mut s3 = |method: &'static str, path: &str, body: &[u8]| {
        let head = Signed::new(method, path, &sha256(body), &[]).head();
        let (head, body) = exchange(&mut stream, &head, body);
        assert!(head.starts_with("http/1.1 200"), "{head}{}", String::from_utf8_lossy(&body));
        String::from_utf8(body).expect("text")
    };
    s3("PUT", "/tls", b"");
    let upload = between(&s3("POST", "/tls/a%20b?uploads", b""), "<UploadId>", "<");
    s3("PUT", &format!("/tls/a%20b?partNumber=1&uploadId={upload}"), b"x");
    let tag = "9dd4e461268c8034f5c8564e155c67a6";
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = s3("POST", &format!("/tls/a%20b?uploadId={upload}"), list.as_bytes());
    assert_eq!(between(&done, "<Location>", "<"), "https://test/tls/a%20b");

    let form = Signed::new("POST", "/tls", &sha256(b""), &[]).form("tls", "f", b"x");
    let head = "POST /tls HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=line\r\n";
    let (head, body) = exchange(&mut stream, head, &form);
    assert!(head.starts_with("http/1.1 201"), "{head}{}", String::from_utf8_lossy(&body));
    assert_eq!(between(&head, "\nlocation: ", "\r\n"), "https://test/tls/f");
    assert_eq!(between(&String::from_utf8_lossy(&body), "<Location>", "<"), "https://test/tls/f");
    drop(stream);
    dev.stop();
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = make(folder.path());
    let dev = start(folder.path());
    let address = dev.client.address;
    let mut old = connect(address, &first).expect("a handshake");
    assert_eq!(ask(&mut old, "PUT", "/tls", b"").0, 200);

    let second = make(folder.path());
    wait_for("the new certificate is in use", || connect(address, &second).is_ok());
    assert!(connect(address, &first).is_err(), "the old one is not");
    assert_eq!(ask(&mut old, "PUT", "/tls/k", b"x").0, 200, "connections of before go on");

    // A key that is not the certificate's: the pair in use stays. What follows it is used again.
    let other = tempfile::tempdir().expect("a folder");
    make(other.path());
    std::fs::copy(other.path().join("tls.key"), folder.path().join("tls.key")).expect("a wrong key");
    wait_for("the wrong pair is refused", || {
        dev.metric("blobstore_sidecar_certificate_loads_total{result=\"refused\"}") >= 1.0
    });
    assert!(connect(address, &second).is_ok(), "the last good pair");
    let third = make(folder.path());
    wait_for("a good pair is in use again", || connect(address, &third).is_ok());
    drop(old);
    dev.stop();
}

#[test]
fn a_pair_that_does_not_fit_does_not_start() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    make(folder.path());
    make(other.path());
    let run = |certificate: &Path, key: &Path| {
        Command::new(crate::process::binary())
            .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--tls-certificate"])
            .arg(certificate)
            .arg("--tls-key")
            .arg(key)
            .output()
            .expect("the binary runs")
    };
    let certificate = folder.path().join("tls.crt");
    for key in [other.path().join("tls.key"), folder.path().join("none"), certificate.clone()] {
        let ended = run(&certificate, &key);
        assert!(!ended.status.success(), "{}", key.display());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("TLS"), "{said}");
    }
}
