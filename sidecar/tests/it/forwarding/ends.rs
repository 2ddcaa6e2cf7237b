//! The end of a sidecar: every client that it opened is closed, those of peers and those of origins.

use super::{blocking, pair_with, stop};
use crate::process::{assert_status, metric_in, pattern, wait_for};

/// Of every sidecar in this process.
fn clients(side: &str) -> f64 {
    let families = blobstore_sidecar_runtime::metrics::registry().gather();
    let shown = prometheus::TextEncoder::new().encode_to_string(&families).expect("metrics are text");
    metric_in(&shown, &format!("blobstore_sidecar_clients_{side}_total "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_sidecar_has_closed_every_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{{name: ends, bucket: shown, source: {{type: file, path: {}}}, ttlSeconds: 60, negativeTtlSeconds: 0}}",
        folder.path().display()
    );
    let (lower, upper) = pair_with(vec![serde_yaml_ng::from_str(&text).expect("an origin")]);
    let shells = [&lower, &upper].map(|sidecar| std::sync::Arc::clone(&sidecar.shell));
    let both = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        wait_for("the bucket", || both.iter().all(|one| one.send("HEAD", "/shown", &[], b"").status == 200));
        // Enough names for objects of both, asked for at both.
        for index in 0..24 {
            let path = format!("/shown/{index}");
            std::fs::write(folder.path().join(index.to_string()), pattern(1_000, index)).expect("a file");
            assert_status(&both[index as usize % 2].get(&path), 200, &path);
            assert_status(&both[(index as usize + 1) % 2].get(&path), 200, &path);
        }
    })
    .await;
    for shell in &shells {
        let open = (shell.origins.clients_open(), shell.peering.clients().count());
        assert_eq!(open, (1, 1), "one origin, one peer");
    }
    stop([lower, upper]).await;
    for shell in &shells {
        let open = (shell.origins.clients_open(), shell.peering.clients().count());
        assert_eq!(open, (0, 0), "the shell itself still lives");
    }
    // Other tests of this process have clients of their own, and close them.
    blocking(|| {
        wait_for("as many closed as opened", || clients("closed") == clients("opened"));
        assert!(clients("opened") >= 4.0 && clients("evicted") >= 4.0, "these four at least");
    })
    .await;
}
