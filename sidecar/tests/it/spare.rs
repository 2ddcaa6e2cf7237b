//! A chunk that one engine lost comes from another sidecar's, over the peer port, and is written back.

use crate::forwarding::{blocking, pair, stop};
use crate::http::Client;
use crate::process::{assert_status, pattern};

fn run(engine: &std::path::Path, command: &[&[u8]]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::os::unix::net::UnixStream::connect(engine).expect("the engine listens");
    let mut text = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        text.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        text.extend_from_slice(word);
        text.extend_from_slice(b"\r\n");
    }
    // The engine says everything before it closes.
    text.extend_from_slice(b"*1\r\n$4\r\nQUIT\r\n");
    socket.write_all(&text).expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    answer.strip_suffix(b"+OK\r\n").expect("the end").to_vec()
}

fn chunks(engine: &std::path::Path) -> Vec<String> {
    let answer = String::from_utf8_lossy(&run(engine, &[b"KEYS", b"c:*"])).into_owned();
    answer.lines().filter(|line| line.starts_with("c:")).map(str::to_owned).collect()
}

/// The value itself, without its length in front and its end behind.
fn value(engine: &std::path::Path, key: &str) -> Vec<u8> {
    let answer = run(engine, &[b"GET", key.as_bytes()]);
    let start = answer.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    answer[start..answer.len() - 2].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_chunk_comes_from_a_replicas_engine_and_is_written_back() {
    let (lower, upper) = pair();
    lower.authority.copied_to(&upper.peer.to_string());
    let (client, here, there): (Client, _, _) =
        (lower.client.clone(), lower.engine.socket(), upper.engine.socket());
    blocking(move || {
        assert_status(&client.put("/spare", b""), 200, "a bucket");
        let body = pattern(900_000, 3);
        // Several names, so that some lie in the half that this one serves.
        for index in 0..8 {
            assert_status(&client.put(&format!("/spare/{index}"), &body), 200, "stored");
        }
        let keys = chunks(&here);
        assert!(!keys.is_empty(), "this engine has some of them");
        let values: Vec<Vec<u8>> = keys.iter().map(|key| value(&here, key)).collect();
        for (key, value) in keys.iter().zip(&values) {
            run(&there, &[b"SET", key.as_bytes(), value]);
        }
        for (index, key) in keys.iter().enumerate() {
            match index % 2 {
                0 => run(&here, &[b"DEL", key.as_bytes()]),
                _ => run(&here, &[b"SETRANGE", key.as_bytes(), b"7", b"other"]),
            };
        }
        // What the cache has would be repaired from there.
        assert_status(&client.send("GET", "/spare/0", &[], b""), 200, "served");
        for index in 0..8 {
            let got = client.get(&format!("/spare/{index}"));
            assert!(got.status == 200 && got.body == body, "{index}: {}", got.status);
        }
        for (key, want) in keys.iter().zip(&values) {
            assert!(value(&here, key) == *want, "{key} is not what was written");
        }
    })
    .await;
    stop([lower, upper]).await;
}
