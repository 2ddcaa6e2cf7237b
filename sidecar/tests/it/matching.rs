//! What a prefix or a pattern names: shown page by page, deleted with an answer for each, and nothing else touched.

use serde_json::Value;

use crate::bulk::{archive, entry, lines, statuses, summary};
use crate::forwarding::{blocking, pair, stop};
use crate::http::{Client, Connection};
use crate::process::{Dev, assert_status, wait_for_tasks};
use crate::signer::signed;

/// One small object for each name, in one request.
fn fill<'a>(client: &Client, bucket: &str, names: impl IntoIterator<Item = &'a str>) {
    let entries: Vec<Vec<u8>> = names.into_iter().map(|name| entry(name, b'0', b"x")).collect();
    let answer = client.send("POST", &format!("/{bucket}?bulk=upload"), &[], &archive(&entries));
    assert_eq!(summary(&lines(&answer)), (entries.len() as u64, 0, None), "{}", answer.text());
}

/// All names that a listing shows, and how many pages it took.
fn shown(client: &Client, bucket: &str, query: &str) -> (Vec<String>, usize) {
    let (mut names, mut token, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let more = token.map(|token| format!("&continuation-token={token}")).unwrap_or_default();
        let path = format!("/{bucket}?list-type=2&{query}{more}");
        let answer = client.send("GET", &path, &[("accept", "application/json")], b"");
        assert_status(&answer, 200, &path);
        let page = answer.json();
        let keys = page["keys"].as_array().expect("keys").iter();
        names.extend(keys.map(|key| key["key"].as_str().expect("a name").to_owned()));
        pages += 1;
        assert!(pages < 1_000, "the listing never ends");
        token = page["nextToken"].as_str().map(str::to_owned);
        if token.is_none() {
            return (names, pages);
        }
    }
}

fn all(client: &Client, bucket: &str) -> Vec<String> {
    shown(client, bucket, "").0
}

fn keys(lines: &[Value]) -> Vec<&str> {
    lines[..lines.len() - 1].iter().map(|line| line["key"].as_str().expect("a key")).collect()
}

const NAMES: [&str; 9] = [
    "logs/a.old",
    "logs/a.txt",
    "logs/b/c.txt",
    "logs/b/d.old",
    "logs2/e.txt",
    "x y/f.txt",
    "x.txt",
    "z",
    "ä.txt",
];

#[test]
fn a_listing_by_pattern_shows_what_matches_page_by_page() {
    let dev = Dev::with_bucket("shelf", &[]);
    let client = &dev.client;
    fill(client, "shelf", NAMES);
    for (query, want) in [
        ("pattern=logs%2F*.txt", vec!["logs/a.txt", "logs/b/c.txt"]),
        ("pattern=*.old", vec!["logs/a.old", "logs/b/d.old"]),
        ("pattern=%3F.txt", vec!["x.txt"]),
        ("pattern=x+y*", vec!["x y/f.txt"]),
        ("pattern=[x-z]*&prefix=x", vec!["x y/f.txt", "x.txt"]),
        ("pattern=*.txt&prefix=logs/b", vec!["logs/b/c.txt"]),
        ("pattern=logs*&prefix=z", vec![]),
        ("pattern=*.txt&start-after=logs2/e.txt", vec!["x y/f.txt", "x.txt", "ä.txt"]),
    ] {
        assert_eq!(shown(client, "shelf", query).0, want, "{query}");
        let (again, pages) = shown(client, "shelf", &format!("{query}&max-keys=1"));
        assert_eq!(again, want, "{query}, one by one");
        assert!(pages >= want.len(), "{query}: {pages} pages");
    }
    let xml = client.get("/shelf?list-type=2&pattern=*.old").text();
    assert!(xml.contains("<Pattern>*.old</Pattern>") && xml.matches("<Key>").count() == 2, "{xml}");
    for wrong in ["pattern=", "pattern=%5Bx", "pattern=x*&delimiter=/", "pattern=x%5C"] {
        assert_status(&client.get(&format!("/shelf?list-type=2&{wrong}")), 400, wrong);
    }
    assert_status(&client.get("/nowhere?pattern=a*&prefix=b"), 404, "no bucket, though nothing could match");
    dev.stop();
}

/// R000-3: deletion by prefix and by pattern.
#[test]
fn what_a_prefix_or_a_pattern_names_is_deleted_and_nothing_else() {
    let dev = Dev::with_bucket("shelf", &[]);
    let client = &dev.client;
    for (query, want) in [
        ("prefix=logs/", vec!["logs/a.old", "logs/a.txt", "logs/b/c.txt", "logs/b/d.old"]),
        ("prefix=logs/&pattern=*.old", vec!["logs/a.old", "logs/b/d.old"]),
        ("pattern=*.old", vec!["logs/a.old", "logs/b/d.old"]),
        ("prefix=x+y/", vec!["x y/f.txt"]),
        ("prefix=nothing", vec![]),
        ("pattern=logs*&prefix=z", vec![]),
    ] {
        fill(client, "shelf", NAMES);
        let dry = lines(&client.send("DELETE", &format!("/shelf?{query}&dry-run"), &[], b""));
        let named = want.iter().map(|name| ((*name).to_owned(), 200)).collect::<Vec<_>>();
        assert_eq!(statuses(&dry), named, "{query}");
        assert_eq!(dry.last().expect("a summary")["dryRun"], Value::Bool(true));
        assert_eq!(all(client, "shelf"), NAMES, "{query}: only looked at");

        let gone = lines(&client.send("DELETE", &format!("/shelf?{query}"), &[], b""));
        assert_eq!(keys(&gone), want, "{query}");
        assert_eq!(summary(&gone), (want.len() as u64, 0, None), "{query}");
        assert!(gone.iter().all(|line| line["status"] == 204 || line["items"].is_u64()), "{gone:?}");
        assert!(gone.last().expect("a summary")["nextToken"].is_null(), "{query}: all of it");
        let left: Vec<&str> = NAMES.into_iter().filter(|name| !want.contains(name)).collect();
        assert_eq!(all(client, "shelf"), left, "{query}");
    }
    assert_status(&client.send("DELETE", "/nowhere?prefix=a", &[], b""), 404, "no bucket");
    dev.stop();
}

/// An empty variable of a script, a word that is misspelt, a pattern that says nothing: no object goes, nor the bucket.
#[test]
fn a_deletion_that_does_not_say_what_is_refused() {
    let dev = Dev::with_bucket("dear", &[]);
    let client = &dev.client;
    for filled in [false, true] {
        if filled {
            fill(client, "dear", NAMES);
        }
        for query in [
            "prefix=",
            "prefix",
            "pattern=",
            "pattern=*",
            "pattern=%3F*",
            "prefx=logs",
            "prefix=l&max-keys=1",
            "dry-run",
        ] {
            let answer = client.send("DELETE", &format!("/dear?{query}"), &[], b"");
            assert_status(&answer, 400, query);
        }
        assert_eq!(all(client, "dear").len(), if filled { NAMES.len() } else { 0 });
    }
    dev.stop();
}

#[test]
fn conditions_hold_for_each_that_is_found() {
    let dev = Dev::with_bucket("aged", &[]);
    let client = &dev.client;
    fill(client, "aged", ["a/1", "a/2"]);
    assert_status(&client.put("/aged/a/3", b"other bytes"), 200, "an object");
    let delete = |query: &str, header| {
        lines(&client.send("DELETE", &format!("/aged?prefix=a/{query}"), &[header], b""))
    };
    let old = ("if-unmodified-since", "Thu, 01 Jan 2015 00:00:00 GMT");
    let kept = [("a/1".to_owned(), 412), ("a/2".to_owned(), 412), ("a/3".to_owned(), 412)];
    assert_eq!(statuses(&delete("&dry-run", old)), kept);
    assert_eq!(statuses(&delete("", old)), kept);
    let etag = client.send("HEAD", "/aged/a/3", &[], b"").header("etag").expect("an ETag").to_owned();
    let last = [("a/1".to_owned(), 412), ("a/2".to_owned(), 412), ("a/3".to_owned(), 204)];
    assert_eq!(statuses(&delete("", ("if-match", &etag))), last);
    assert_eq!(all(client, "aged"), ["a/1", "a/2"]);
    dev.stop();
}

#[test]
fn rights_hold_for_the_list_and_for_each_that_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users.yaml");
    let text = "- {name: root, token: all, rights: [{bucket: '*', allow: [admin]}]}\n\
                - {name: some, token: some, rights: [{bucket: shared, prefix: mine/, allow: [list, read]}, \
                {bucket: shared, prefix: mine/own/, allow: [delete]}]}\n\
                - {name: blind, token: blind, rights: [{bucket: shared, allow: [delete]}]}\n";
    std::fs::write(&users, text).expect("a file");
    let dev = Dev::start_as(&["--users", users.to_str().expect("UTF-8")]);
    let client = |token| Client::new(dev.client.address, token);
    let (root, some, blind) = (client("all"), client("some"), client("blind"));
    assert_status(&root.put("/shared", b""), 200, "a bucket");
    let names = ["mine/a", "mine/own/b", "theirs/c"];
    fill(&root, "shared", names);
    for (who, query, status) in [
        (&some, "pattern=*mine*", 403),
        (&some, "prefix=theirs/", 403),
        (&some, "prefix=min", 403),
        (&blind, "prefix=mine/", 403),
        (&client("nobody"), "prefix=mine/", 401),
    ] {
        for dry in ["", "&dry-run"] {
            let answer = who.send("DELETE", &format!("/shared?{query}{dry}"), &[], b"");
            assert_status(&answer, status, query);
        }
    }
    // The head of a pattern is as good as a prefix.
    assert_eq!(shown(&some, "shared", "pattern=mine/*").0, ["mine/a", "mine/own/b"]);
    for (query, went) in [("pattern=mine/*&dry-run", 200), ("pattern=mine/*", 204)] {
        let answer = some.send("DELETE", &format!("/shared?{query}"), &[], b"");
        let want = [("mine/a".to_owned(), 403), ("mine/own/b".to_owned(), went)];
        assert_eq!(statuses(&lines(&answer)), want, "{query}");
    }
    assert_eq!(all(&root, "shared"), ["mine/a", "theirs/c"]);
    dev.stop();
}

/// Each gets a delete marker, as by a deletion of its own; nothing is lost, and a second request finds nothing.
#[test]
fn where_versions_are_kept_they_are_hidden() {
    let dev = Dev::with_bucket("kept", &[]);
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let client = &dev.client;
    assert_status(&signed(client, "PUT", "/kept?versioning", enabled), 200, "versioning");
    fill(client, "kept", ["a/1", "a/2", "b"]);
    let gone = lines(&client.send("DELETE", "/kept?prefix=a/", &[], b""));
    assert_eq!(summary(&gone), (2, 0, None));
    assert!(gone[..2].iter().all(|line| line["versionId"].is_string()), "{gone:?}");
    assert_eq!(all(client, "kept"), ["b"]);
    let again = lines(&client.send("DELETE", "/kept?prefix=a/", &[], b""));
    assert_eq!(summary(&again), (0, 0, None));
    let marker = gone[0]["versionId"].as_str().expect("a version");
    assert_status(
        &client.send("DELETE", &format!("/kept/a/1?versionId={marker}"), &[], b""),
        204,
        "the marker",
    );
    assert_eq!(client.get("/kept/a/1").body, b"x", "back again");
    dev.stop();
}

/// More than one request does, and what stays because it may not go is not met again.
#[test]
fn a_deletion_goes_on_where_the_last_one_ended() {
    let dev = Dev::start(&[]);
    let client = &dev.client;
    assert_status(&client.send("PUT", "/large", &[("x-blobstore-etag", "md5")], b""), 200, "a bucket");
    let names: Vec<String> = (0..10_400).map(|number| format!("f/{number:05}")).collect();
    for part in names.chunks(5_200) {
        fill(client, "large", part.iter().map(String::as_str));
    }
    assert_status(&client.put("/large/f/00000", b"longer"), 200, "another ETag");
    let etag = client.send("HEAD", "/large/f/00001", &[], b"").header("etag").expect("an ETag").to_owned();
    // A client that goes away: what it has not heard of may be gone or not, and nothing is left running.
    let baseline = dev.settled_tasks();
    let mut connection = Connection::open(client.address).expect("connect");
    let bearer = client.bearer();
    connection
        .head("DELETE", "/large?prefix=f/", &[("authorization", &bearer), ("if-match", &etag)])
        .expect("a header");
    assert_eq!(connection.read_head().expect("an answer").status, 200);
    assert!(!connection.read_chunk().expect("a line").is_empty());
    drop(connection);
    wait_for_tasks(&dev, &baseline);
    let left = all(client, "large").len() as u64;
    assert!(left > 1, "one request does not take them all: {left} are left");

    let (mut token, mut items, mut requests) = (String::new(), 0, 0);
    loop {
        let answer = client.send("DELETE", &format!("/large?prefix=f/{token}"), &[("if-match", &etag)], b"");
        let lines = lines(&answer);
        items += summary(&lines).0;
        requests += 1;
        match lines.last().expect("a summary")["nextToken"].as_str() {
            Some(next) => token = format!("&continuation-token={next}"),
            None => break,
        }
        assert!(requests < 3, "it never ends");
    }
    assert_eq!(items, left, "each once");
    assert_eq!(requests, if left > 10_000 { 2 } else { 1 });
    let rest = all(client, "large");
    assert!(rest == ["f/00000"], "{} are left", rest.len());
    dev.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shard_is_asked_whichever_sidecar_answers() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        assert_status(&clients[0].put("/both", b""), 200, "a bucket");
        let names: Vec<String> = (0..60).map(|number| format!("{}/{number:02}.txt", number % 3)).collect();
        fill(&clients[0], "both", names.iter().map(String::as_str));
        let mut wanted: Vec<String> = names.iter().filter(|name| name.ends_with("5.txt")).cloned().collect();
        wanted.sort();
        for client in &clients {
            for max in [1_000, 2] {
                let (found, _) =
                    shown(client, "both", &format!("pattern=?/*5.txt&max-keys={max}").replace('?', "%3F"));
                assert_eq!(found, wanted, "{max}");
            }
        }
        let gone = lines(&clients[1].send("DELETE", "/both?pattern=%3F/*5.txt", &[], b""));
        assert_eq!(keys(&gone), wanted);
        assert_eq!(summary(&gone), (wanted.len() as u64, 0, None));
        let gone = lines(&clients[0].send("DELETE", "/both?prefix=1/", &[], b""));
        assert_eq!(summary(&gone).1, 0);
        let left = all(&clients[1], "both");
        let want = |name: &&String| !name.starts_with("1/") && !name.ends_with("5.txt");
        assert_eq!(left.len(), names.iter().filter(want).count());
        assert!(left.iter().all(|name| want(&name)), "{left:?}");
    })
    .await;
    stop([lower, upper]).await;
}
