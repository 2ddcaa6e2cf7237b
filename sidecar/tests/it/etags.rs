//! Kinds of ETags: what an upload asks for, and what its bucket says for all.

use md5::{Digest as _, Md5};

use crate::http::{Answer, Connection};
use crate::process::{Dev, assert_status, pattern};
use crate::signer::{element, signed};

/// More than what gets an MD5 unless the bucket says so.
const LARGE: usize = 9 << 20;

fn md5(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(Md5::digest(bytes)))
}

fn set(dev: &Dev, kind: &str) -> Answer {
    dev.client.send("PUT", "/etags", &[("x-blobstore-etag", kind)], b"")
}

fn etag(answer: &Answer) -> &str {
    answer.header("etag").expect("an ETag")
}

#[test]
fn a_bucket_gives_every_object_its_md5_or_none() {
    let dev = Dev::with_bucket("etags", &[]);
    let (small, large) = (pattern(1_000, 1), pattern(LARGE, 2));
    assert!(etag(&dev.client.put("/etags/a", &small)).ends_with("-1\""), "opaque unless asked for");
    assert_eq!(etag(&signed(&dev.client, "PUT", "/etags/a", &small)), md5(&small), "small ones over S3");
    assert!(etag(&signed(&dev.client, "PUT", "/etags/b", &large)).ends_with("-1\""), "and no large ones");

    assert_eq!(set(&dev, "md5").header("x-blobstore-etag"), Some("md5"));
    assert_eq!(etag(&dev.client.put("/etags/a", &small)), md5(&small));
    assert_eq!(etag(&signed(&dev.client, "PUT", "/etags/b", &large)), md5(&large));
    assert_eq!(etag(&chunked(&dev, "/etags/c", &large)), md5(&large), "of unknown length");
    assert_eq!(etag(&dev.client.get("/etags/c")), md5(&large));
    let upload = signed(&dev.client, "POST", "/etags/p?uploads", b"");
    let upload = element(&upload, "UploadId").expect("an upload");
    let part = signed(&dev.client, "PUT", &format!("/etags/p?partNumber=1&uploadId={upload}"), &large);
    assert_eq!(etag(&part), md5(&large), "parts, too");

    assert_status(&set(&dev, "opaque"), 200, "the other kind");
    assert!(etag(&signed(&dev.client, "PUT", "/etags/a", &small)).ends_with("-1\""), "small ones, too");
    assert_eq!(dev.client.send("HEAD", "/etags", &[], b"").header("x-blobstore-etag"), Some("opaque"));
    assert_status(&set(&dev, "sha1"), 400, "no such kind");
    let default = set(&dev, "default");
    assert_eq!((default.status, default.header("x-blobstore-etag")), (200, None));
    assert_eq!(etag(&signed(&dev.client, "PUT", "/etags/a", &small)), md5(&small));
    dev.stop();
}

fn chunked(dev: &Dev, path: &str, body: &[u8]) -> Answer {
    let mut connection = Connection::open(dev.client.address).expect("a connection");
    let bearer = dev.client.bearer();
    let headers =
        [("authorization", bearer.as_str()), ("transfer-encoding", "chunked"), ("connection", "close")];
    connection.head("PUT", path, &headers).expect("a head");
    for chunk in body.chunks(1 << 20) {
        connection.write(format!("{:x}\r\n", chunk.len()).as_bytes()).expect("a chunk's length");
        connection.write(chunk).expect("a chunk");
        connection.write(b"\r\n").expect("its end");
    }
    connection.write(b"0\r\n\r\n").expect("the end");
    connection.read_answer(false).expect("an answer")
}
