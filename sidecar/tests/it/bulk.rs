//! Many objects in one request: every item has its answer, in order, and none spoils another.

use std::process::Command;

use serde_json::{Value, json};

use crate::forwarding::{blocking, pair, stop};
use crate::http::{Answer, Client, Connection};
use crate::process::{Dev, assert_status, pattern, wait_for, wait_for_tasks};

/// The lines of an answer; the last one sums up.
pub(crate) fn lines(answer: &Answer) -> Vec<Value> {
    assert_status(answer, 200, "an answer per item");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Key, or number of the item, with its status.
pub(crate) fn statuses(lines: &[Value]) -> Vec<(String, u64)> {
    let shown = |line: &Value| {
        let key = line["key"].as_str().map_or_else(|| line["item"].to_string(), str::to_owned);
        (key, line["status"].as_u64().unwrap_or_default())
    };
    lines[..lines.len() - 1].iter().map(shown).collect()
}

pub(crate) fn summary(lines: &[Value]) -> (u64, u64, Option<u64>) {
    let last = lines.last().expect("a summary");
    let number = |name: &str| last[name].as_u64().expect("a number");
    (number("items"), number("failed"), last["stopped"]["status"].as_u64())
}

fn owned(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(key, status)| ((*key).to_owned(), *status)).collect()
}

pub(crate) fn entry(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn delete(client: &Client, bucket: &str, keys: &[Value]) -> Answer {
    let body: String = keys.iter().map(|key| format!("{key}\n")).collect();
    client.send("POST", &format!("/{bucket}?bulk=delete"), &[], body.as_bytes())
}

/// R000-3: deletions in bulk.
#[test]
fn keys_go_one_by_one_and_a_bad_line_spoils_nothing() {
    let dev = Dev::with_bucket("gone", &[]);
    let client = &dev.client;
    for key in ["a", "b%20c", "%C3%A4", "kept"] {
        assert_status(&client.put(&format!("/gone/{key}"), &pattern(1_000, 1)), 200, key);
    }
    let long = "k".repeat(1_025);
    let body = format!(
        "\"a\"\n\n{{\"key\": \"b c\"}}\nnonsense\n{{\"key\": \"kept\", \"ifMatch\": \"\\\"other\\\"\"}}\n\
         {{\"key\": \"x\", \"more\": 1}}\n\"{long}\"\n\"{}\"\n{{\"key\":\"x\",\"versionId\":\"no\"}}\r\n\"ä\"\n\"never\"",
        "l".repeat(40_000)
    );
    let answer = client.send("POST", "/gone?bulk=delete", &[], body.as_bytes());
    let lines = lines(&answer);
    let want = [
        ("a", 204),
        ("b c", 204),
        ("3", 400),
        ("kept", 412),
        ("5", 400),
        ("6", 400),
        ("7", 400),
        ("8", 400),
        ("ä", 204),
        ("never", 204),
    ];
    assert_eq!(statuses(&lines), owned(&want));
    assert_eq!(lines[3]["code"], json!("PreconditionFailed"));
    assert_eq!(lines[5]["code"], json!("KeyTooLongError"));
    assert_eq!(summary(&lines), (10, 6, None));
    for (key, status) in [("a", 404), ("b%20c", 404), ("%C3%A4", 404), ("kept", 200)] {
        assert_status(&client.send("HEAD", &format!("/gone/{key}"), &[], b""), status, key);
    }
    assert_status(&client.send("POST", "/gone?bulk=move", &[], b""), 400, "no such work");
    assert_status(&client.send("POST", "/gone", &[], b""), 405, "no work at all");
    assert_status(&client.send("POST", "/nowhere?bulk=delete", &[], b"\"a\""), 404, "no bucket");
    let stranger = client.send("POST", "/gone?bulk=delete", &[("authorization", "Bearer x")], b"\"kept\"");
    assert_status(&stranger, 401, "a stranger");
    assert_status(&client.send("HEAD", "/gone/kept", &[], b""), 200, "still there");
    dev.stop();
}

/// R000-3: uploads in bulk.
#[test]
fn an_archive_becomes_objects_and_what_is_no_file_is_told() {
    let dev = Dev::with_bucket("packed", &[]);
    let client = &dev.client;
    let (small, large) = (pattern(5_000, 1), pattern(700_000, 2));
    let body = archive(&[
        entry("./dir/", b'5', b""),
        entry("./dir/small", b'0', &small),
        entry("link", b'2', b""),
        entry("large", b'0', &large),
        entry("a", b'0', b"first"),
        entry("", b'0', b"no name"),
        entry("a", b'0', b"second"),
        entry("empty", b'0', b""),
    ]);
    let described = [
        ("content-type", "application/x-tar"),
        ("x-blobstore-content-type", "text/x"),
        ("x-blobstore-meta-run", "7"),
    ];
    let answer = client.send("POST", "/packed?bulk=upload&prefix=in%2F", &described, &body);
    let lines = lines(&answer);
    let want = [
        ("in/dir/small", 200),
        ("link", 400),
        ("in/large", 200),
        ("in/a", 200),
        ("in/", 200),
        ("in/a", 200),
        ("in/empty", 200),
    ];
    assert_eq!(statuses(&lines), owned(&want));
    assert_eq!(summary(&lines), (7, 1, None));
    for (path, want) in [("dir/small", &small[..]), ("large", &large[..]), ("a", b"second"), ("empty", b"")] {
        let got = client.get(&format!("/packed/in/{path}"));
        assert_status(&got, 200, path);
        assert!(got.body == want, "{path}: other bytes");
        assert_eq!(got.header("content-type"), Some("text/x"), "{path}");
        assert_eq!(got.header("x-blobstore-meta-run"), Some("7"), "{path}");
    }
    let etag = client.send("HEAD", "/packed/in/large", &[], b"").header("etag").map(str::to_owned);
    assert_eq!(lines[2]["etag"].as_str().map(str::to_owned), etag);
    // Only what is new.
    let again = archive(&[entry("in/a", b'0', b"third"), entry("in/new", b'0', b"new")]);
    let answer = client.send("POST", "/packed?bulk=upload", &[("if-none-match", "*")], &again);
    assert_eq!(statuses(&self::lines(&answer)), owned(&[("in/a", 412), ("in/new", 200)]));
    assert_eq!(client.get("/packed/in/a").body, b"second");
    dev.stop();
}

#[test]
fn what_ends_in_the_middle_keeps_what_came_whole_and_says_so() {
    let dev = Dev::with_bucket("cut", &[]);
    let client = &dev.client;
    let good = entry("good", b'0', &pattern(3_000, 1));
    for (name, more, status) in [
        ("no header", vec![7; 2_000], 400),
        ("half a header", vec![0; 100], 400),
        ("half a file", entry("half", b'0', &pattern(200_000, 2))[..100_000].to_vec(), 400),
        ("half a small file", entry("half", b'0', &pattern(20_000, 2))[..10_000].to_vec(), 400),
        ("no end", Vec::new(), 400),
    ] {
        let answer = client.send("POST", "/cut?bulk=upload", &[], &[good.clone(), more].concat());
        let lines = lines(&answer);
        assert_eq!(statuses(&lines)[0], ("good".to_owned(), 200), "{name}");
        assert_eq!(summary(&lines).2, Some(status), "{name}: {:?}", lines.last());
        assert_status(&client.send("HEAD", "/cut/half", &[], b""), 404, name);
    }
    assert!(client.get("/cut/good").body == pattern(3_000, 1));
    // A client that goes away in the middle.
    let baseline = dev.settled_tasks();
    let mut connection = Connection::open(client.address).expect("connect");
    let bearer = client.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-length", "1000000")];
    connection.head("POST", "/cut?bulk=upload", &headers).expect("a header");
    connection.write(&entry("gone", b'0', b"whole")).expect("an entry");
    wait_for("the first item", || client.get("/cut/gone").body == b"whole");
    drop(connection);
    wait_for_tasks(&dev, &baseline);
    dev.stop();
}

/// Whoever waits for each answer before the next item gets it.
#[test]
fn items_are_answered_as_they_go() {
    let dev = Dev::with_bucket("talk", &[]);
    let client = &dev.client;
    let mut connection = Connection::open(client.address).expect("connect");
    let bearer = client.bearer();
    let headers = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked")];
    connection.head("POST", "/talk?bulk=delete", &headers).expect("a header");
    for key in ["a", "b", "c"] {
        let line = format!("\"{key}\"\n");
        connection.write(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).expect("a line");
        if key == "a" {
            assert_eq!(connection.read_head().expect("an answer").status, 200);
        }
        let answer = connection.read_chunk().expect("a line");
        let line: Value = serde_json::from_slice(&answer).expect("a line of JSON");
        assert_eq!((&line["key"], &line["status"]), (&json!(key), &json!(204)));
    }
    connection.write(b"0\r\n\r\n").expect("the end");
    let last: Value = serde_json::from_slice(&connection.read_chunk().expect("a line")).expect("JSON");
    assert_eq!(last, json!({"items": 3, "failed": 0}));
    dev.stop();
}

/// As Python's `requests` does: the answers wait until everything is sent.
#[test]
fn a_client_that_reads_only_at_the_end_gets_every_answer_and_more_than_the_bound_is_refused() {
    let dev = Dev::with_bucket("many", &[]);
    let keys: Vec<Value> = (0..10_001).map(|key| json!(format!("folder/{key}"))).collect();
    let answer = delete(&dev.client, "many", &keys);
    let lines = lines(&answer);
    assert_eq!(summary(&lines), (10_000, 0, Some(413)));
    assert_eq!(lines[9_999]["key"], json!("folder/9999"));
    dev.stop();
}

#[test]
fn rights_hold_for_every_item() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users.yaml");
    let text = "- {name: root, token: all, rights: [{bucket: '*', allow: [admin]}]}\n\
                - {name: some, token: some, rights: [{bucket: shared, prefix: mine/, allow: [write, delete]}]}\n";
    std::fs::write(&users, text).expect("a file");
    let dev = Dev::start_as(&["--users", users.to_str().expect("UTF-8")]);
    let (root, some) = (Client::new(dev.client.address, "all"), Client::new(dev.client.address, "some"));
    assert_status(&root.put("/shared", b""), 200, "a bucket");
    let body = archive(&[entry("mine/a", b'0', b"1"), entry("theirs/a", b'0', b"2")]);
    let answer = some.send("POST", "/shared?bulk=upload", &[], &body);
    assert_eq!(statuses(&lines(&answer)), owned(&[("mine/a", 200), ("theirs/a", 403)]));
    assert_status(&root.put("/shared/theirs/b", b"3"), 200, "an object");
    let answer = delete(&some, "shared", &[json!("theirs/b"), json!("mine/a")]);
    assert_eq!(statuses(&lines(&answer)), owned(&[("theirs/b", 403), ("mine/a", 204)]));
    assert_eq!(root.get("/shared/theirs/b").body, b"3");
    dev.stop();
}

/// What the distribution's own program writes, long names and all.
#[test]
fn tar_programs_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "long/".repeat(30) + &"n".repeat(150);
    for (name, len) in [("a", 10), ("ä ö", 70_000), (long.as_str(), 300_000)] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, pattern(len, len as u64)).expect("a file");
    }
    let dev = Dev::with_bucket("tars", &[]);
    for format in ["gnu", "posix", "ustar"] {
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={format}")).arg("-C").arg(folder.path()).args(["-cf", "-", "."]);
        let packed = tar.output().expect("tar is installed").stdout;
        let target = format!("/tars?bulk=upload&prefix={format}/");
        let lines = lines(&dev.client.send("POST", &target, &[], &packed));
        // The oldest format has no room for the long name: the program leaves it out.
        let count = if format == "ustar" { 2 } else { 3 };
        assert_eq!(summary(&lines), (count, 0, None), "{format}: {lines:?}");
        let mut want = vec![("a".to_owned(), 10), ("%C3%A4%20%C3%B6".to_owned(), 70_000)];
        want.extend((format != "ustar").then(|| (long.clone(), 300_000)));
        for (path, len) in want {
            let got = dev.client.get(&format!("/tars/{format}/{path}"));
            assert!(got.body == pattern(len, len as u64), "{format} {path}: other bytes");
        }
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_go_to_their_owners() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        assert_status(&clients[0].put("/both", b""), 200, "a bucket");
        let body = |index: usize| pattern(index * 20_000, index as u64);
        let entries: Vec<Vec<u8>> =
            (0..24).map(|index| entry(&index.to_string(), b'0', &body(index))).collect();
        let answer = clients[0].send("POST", "/both?bulk=upload", &[], &archive(&entries));
        assert_eq!(summary(&lines(&answer)), (24, 0, None), "{}", answer.text());
        for index in 0..24 {
            assert!(clients[1].get(&format!("/both/{index}")).body == body(index), "{index}: other bytes");
        }
        let keys: Vec<Value> = (0..25).map(|index| json!(index.to_string())).collect();
        let answer = delete(&clients[1], "both", &keys);
        assert_eq!(summary(&lines(&answer)), (25, 0, None), "{}", answer.text());
        assert_status(&clients[0].send("DELETE", "/both", &[], b""), 204, "empty on both");
    })
    .await;
    stop([lower, upper]).await;
}

/// A client that can follow is sent to the owner, whoever does not ask is served through the pod it came to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_prefers_it_is_sent_to_the_owner() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        assert_status(&clients[0].put("/follow", b""), 200, "a bucket");
        let prefer = [("prefer", "respond-async, Redirect; x=1")];
        let (mut followed, mut served) = (0, 0);
        for index in 0..12 {
            let (path, body) = (format!("/follow/{index}%20x?a=b"), pattern(90_000, index));
            let answer = clients[0].send("PUT", &path, &prefer, &body);
            if answer.status == 200 {
                assert_eq!(answer.header("preference-applied"), None);
                served += 1;
                continue;
            }
            assert_status(&answer, 307, "not the owner");
            assert_eq!(answer.header("preference-applied"), Some("redirect"));
            let want = format!("http://{}{path}", clients[1].address);
            assert_eq!(answer.header("location"), Some(want.as_str()));
            assert_status(&clients[0].send("HEAD", &path, &[], b""), 404, "nothing was stored on the way");
            assert_status(&clients[1].send("PUT", &path, &prefer, &body), 200, "the owner itself");
            assert_status(&clients[0].send("GET", &path, &prefer, b""), 307, "reads, too");
            assert!(clients[0].get(&path).body == body, "without the preference it is served");
            followed += 1;
        }
        assert!(followed > 0 && served > 0, "{followed} and {served} of 12");
    })
    .await;
    stop([lower, upper]).await;
}

/// Encoded bytes are bytes: stored as they come, given back with the name of the encoding, whatever a client accepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encodings_pass_untouched() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        assert_status(&clients[0].put("/encoded", b""), 200, "a bucket");
        for (index, encoding) in ["gzip", "zstd", "br", "gzip, aes128gcm"].iter().enumerate() {
            // No valid stream of any of them: nobody may look inside.
            let body = pattern(400_000 + index, index as u64);
            let path = format!("/encoded/{index}");
            let described = [("content-encoding", *encoding), ("content-type", "text/plain")];
            assert_status(&clients[0].send("PUT", &path, &described, &body), 200, encoding);
            for client in &clients {
                for accept in ["identity", "gzip", ""] {
                    let got = client.send("GET", &path, &[("accept-encoding", accept)], b"");
                    assert!(got.body == body, "{encoding} as {accept:?}: other bytes");
                    assert_eq!(got.header("content-encoding"), Some(*encoding));
                    assert_eq!(got.header("content-length"), Some(body.len().to_string().as_str()));
                }
                let range = client.send("GET", &path, &[("range", "bytes=7-99999")], b"");
                assert_status(&range, 206, "a range of the encoded bytes");
                assert!(range.body == body[7..100_000], "{encoding}: other bytes in the range");
            }
        }
    })
    .await;
    stop([lower, upper]).await;
}
