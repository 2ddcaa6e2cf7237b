//! When something is wrong: quotas, a full engine, a dead engine, a termination. The right status, a helpful
//! sentence, nothing half-written.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::{Answer, Connection};
use crate::process::{Dev, assert_status, pattern, wait_for};

const MIB: usize = 1 << 20;

#[test]
fn over_quota_is_refused_and_leaves_nothing() {
    let dev = Dev::start(&["--body-bytes-max", "12MiB"]);
    let quota = (8 * MIB).to_string();
    let made = dev.client.send("PUT", "/small", &[("x-blobstore-quota-bytes", &quota)], b"");
    assert_status(&made, 200, "a bucket with a quota");
    assert_eq!(
        dev.client.send("HEAD", "/small", &[], b"").header("x-blobstore-quota-bytes"),
        Some(quota.as_str())
    );
    assert_status(&dev.client.put("/small/fits", &pattern(MIB, 1)), 200, "below the quota");
    let refused = dev.client.put("/small/too-much", &pattern(10 * MIB, 2));
    assert_status(&refused, 507, "over the quota");
    assert_eq!(refused.code(), "QuotaExceeded");
    assert_status(&dev.client.get("/small/too-much"), 404, "nothing half-written");
    let refused = dev.client.put("/small/huge", &pattern(13 * MIB, 2));
    assert_status(&refused, 413, "over the largest body");
    let lifted = dev.client.send("PUT", "/small", &[("x-blobstore-quota-bytes", "none")], b"");
    assert_status(&lifted, 200, "the quota is lifted");
    assert_status(&dev.client.put("/small/too-much", &pattern(10 * MIB, 2)), 200, "without a quota");
    let wrong = dev.client.send("PUT", "/small", &[("x-blobstore-quota-bytes", "lots")], b"");
    assert_status(&wrong, 400, "no number");
    dev.stop();
}

#[test]
fn an_engine_at_its_limit_refuses_uploads_and_still_answers_and_deletes() {
    let dev = Dev::with_bucket("full", &["--maxmemory", "24MiB"]);
    let body = pattern(2 * MIB, 5);
    let mut stored = 0;
    let refused = loop {
        let answer = dev.client.put(&format!("/full/{stored}"), &body);
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 12, "more than the engine may hold");
    };
    assert_status(&refused, 507, "at the limit");
    assert_eq!(refused.code(), "InsufficientStorage");
    assert_status(&dev.client.get(&format!("/full/{stored}")), 404, "nothing half-written");
    assert!(dev.client.get("/full/0").body == body, "what is stored stays readable");
    for index in 0..stored {
        assert_status(&dev.client.send("DELETE", &format!("/full/{index}"), &[], b""), 204, "deletes go on");
    }
    wait_for("there is room again", || dev.client.put("/full/again", &body).status == 200);
    dev.stop();
}

/// Kills the engine and uploads meanwhile, until an upload meets its absence, which is short: the engine that was killed
/// last, and the answer.
fn refused_without_engine(dev: &Dev, engine: i32) -> (i32, Answer) {
    let mut engine = engine;
    let mut refused = None;
    kill(Pid::from_raw(engine), Signal::SIGKILL).expect("kill the engine");
    wait_for("a refusal while the engine is away", || {
        let answer = dev.client.put("/crash/during", b"x");
        if answer.status != 200 {
            refused = Some(answer);
        } else if let Some(next) = dev.engine_pid().filter(|next| *next != engine) {
            engine = next;
            kill(Pid::from_raw(engine), Signal::SIGKILL).expect("kill the engine");
        }
        refused.is_some()
    });
    (engine, refused.expect("an answer"))
}

#[test]
fn a_killed_engine_is_503_until_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = Dev::with_bucket("crash", &["--data-dir", folder.path().to_str().expect("a path")]);
    let body = pattern(MIB, 7);
    assert_status(&dev.client.put("/crash/before", &body), 200, "before");
    let ready = || dev.admin.get("/readyz").status;
    assert_eq!(ready(), 200);
    let engine = dev.engine_pid().expect("an engine");
    // A write may wait behind a sync that is under way: the commit has to be in the file.
    let written = |wanted: &[u8]| {
        let files = std::fs::read_dir(folder.path().join("appendonlydir")).expect("a folder");
        let mut texts = files.flatten().filter_map(|file| std::fs::read(file.path()).ok());
        texts.any(|text| text.windows(wanted.len()).any(|window| window == wanted))
    };
    wait_for("the commit is in the file", || written(b"crash/before"));
    let (engine, refused) = refused_without_engine(&dev, engine);
    assert_status(&refused, 503, "without an engine");
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    wait_for("the engine is back", || dev.engine_pid().is_some_and(|now| now != engine) && ready() == 200);
    let mut found = dev.client.get("/crash/before");
    if found.status == 503 {
        wait_for("reads go on", || {
            found = dev.client.get("/crash/before");
            found.status != 503
        });
    }
    assert_status(&found, 200, "what was stored before");
    assert!(found.body == body, "other bytes");
    wait_for("uploads go on", || dev.client.put("/crash/after", &body).status == 200);
    dev.stop();
}

/// As one does that finds the port of its bus taken.
#[test]
fn an_engine_that_ends_while_starting_is_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, tried) = (folder.path().join("engine"), folder.path().join("tried"));
    let text = "#!/bin/sh\nfolder=$(dirname \"$0\")\n\
        if [ -e \"$folder/tried\" ]; then exec redis-server \"$@\"; fi\n: >\"$folder/tried\"\nexit 1\n";
    std::fs::write(&engine, text).expect("a file");
    std::fs::set_permissions(&engine, std::fs::Permissions::from_mode(0o700)).expect("it may be run");
    let dev = Dev::with_engine(engine.to_str().expect("a path"), &[]);
    assert!(tried.exists(), "it has ended once");
    assert_eq!(dev.admin.get("/readyz").status, 200);
    dev.stop();
}

#[test]
fn termination_lets_open_requests_finish_and_takes_no_new_ones() {
    let mut dev = Dev::with_bucket("drain", &[]);
    let bearer = dev.client.bearer();
    let body = pattern(MIB, 8);
    let length = body.len().to_string();
    let mut upload = Connection::open(dev.client.address).expect("connect");
    upload
        .head("PUT", "/drain/open", &[("authorization", &bearer), ("content-length", &length)])
        .expect("a header");
    upload.write(&body[..MIB / 2]).expect("half of it");
    wait_for("the upload has begun", || dev.metric("blobstore_sidecar_requests_in_flight") >= 1.0);
    dev.terminate();
    wait_for("not ready", || {
        dev.admin.try_send("GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 503)
    });
    wait_for("no new connections", || Connection::open(dev.client.address).is_err());
    upload.write(&body[MIB / 2..]).expect("the other half");
    assert_status(&upload.read_answer(false).expect("an answer"), 200, "the open upload");
    assert!(dev.wait().success());
}
