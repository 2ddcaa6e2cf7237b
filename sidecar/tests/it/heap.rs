//! Heap profiles of the running binary.

use std::process::Command;

use blobstore_sidecar_api::ports;

use crate::process::assert_status;
use crate::process::{Dev, TOKEN, binary, wait_for};

const MIB: usize = 1 << 20;

/// Started as the pods of a store with `heapProfiles` are.
fn sampled(more: &[&str]) -> Dev {
    let mut command = Command::new(binary());
    command.env(ports::ENV_ALLOCATOR, ports::ALLOCATOR);
    let user = ["--access-key", "test", "--secret-key", TOKEN];
    Dev::spawn(command, "redis-server", &[&user, more].concat())
}

/// Bytes that are still there, as sampled; stacks that allocated them; frames of the deepest.
fn read(profile: &str) -> (usize, usize, usize) {
    // "15: 3965694 [0: 0] @ 0x… 0x…": objects and bytes that are there, and the stack that made them.
    let samples = profile.lines().skip(1).take_while(|line| !line.is_empty());
    let (mut bytes, mut frames) = (0, Vec::new());
    for line in samples {
        let (counts, stack) = line.split_once(" @ ").expect("a sample");
        bytes += counts.split(' ').nth(1).and_then(|bytes| bytes.parse::<usize>().ok()).expect("bytes");
        frames.push(stack.split(' ').count());
    }
    (bytes, frames.len(), frames.into_iter().max().unwrap_or_default())
}

/// What people read it with. Go's own does not name functions of other languages, but it reads the same.
fn pprof(profile: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("heap");
    std::fs::write(&file, profile).expect("a file");
    let out = Command::new("go").args(["tool", "pprof", "-raw"]).arg(&file).output();
    let out = out.expect("Go, which the tests' cluster is built with, too");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// R002-goal: a heap profile is at hand.
#[test]
fn a_heap_profile_shows_what_came_and_stayed_by_stack() {
    let dev = sampled(&["--cache-bytes", "33554432"]);
    assert_status(&dev.client.put("/b", b""), 200, "a bucket");
    let idle = dev.admin.get("/v1/heap-profile?seconds=1");
    assert_status(&idle, 200, "a profile of an idle sidecar");
    assert!(idle.text().starts_with("heap profile: "), "{}", idle.text());
    assert!(idle.text().contains("MAPPED_LIBRARIES:"), "what pprof finds names by");

    let profiler = dev.admin.clone();
    let taken = std::thread::spawn(move || {
        loop {
            let answer = profiler.get("/v1/heap-profile?seconds=10");
            // One of ours, which waits for this one, may have come first.
            if answer.status != 409 {
                return answer;
            }
        }
    });
    wait_for("one at a time", || dev.admin.get("/v1/heap-profile?seconds=1").status == 409);
    // Sixteen objects of a MiB that the cache keeps, made anew as long as the sampler runs.
    while !taken.is_finished() {
        for name in 0..16 {
            let path = format!("/b/{name}");
            assert_status(&dev.client.put(&path, &vec![7; MIB]), 200, "an object");
            assert_status(&dev.client.get(&path), 200, "into the cache");
        }
    }
    let busy = taken.join().expect("an answer");
    assert_status(&busy, 200, "a profile under load");
    let ((before, ..), (after, stacks, deepest)) = (read(&idle.text()), read(&busy.text()));
    println!("{before} bytes at rest, {after} from {stacks} stacks, {deepest} frames");
    assert!(after > before + 8 * MIB, "from {before} to {after}");
    assert!(stacks > 0 && deepest > 5, "{stacks} stacks, the deepest of {deepest} frames");
    let shown = pprof(&busy.text());
    let program = binary().display().to_string();
    for part in ["PeriodType: space bytes", "Samples:", &program] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    for wrong in ["0", "601", "x"] {
        assert_status(&dev.admin.get(&format!("/v1/heap-profile?seconds={wrong}")), 400, wrong);
    }
    dev.stop();
}

#[test]
fn without_a_sampler_the_heap_profile_says_how_to_get_one() {
    let dev = Dev::start(&[]);
    let refused = dev.admin.get("/v1/heap-profile");
    assert_status(&refused, 501, "no sampler");
    assert!(refused.text().contains("_RJEM_MALLOC_CONF=prof:true"), "{}", refused.text());
    dev.stop();
}
