//! Versions in a store of two shards.

use super::{blocking, pair, pair_with, stop};
use crate::process::{assert_status, pattern, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_kept_whichever_sidecar_is_asked() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        let s3 = [("x-amz-acl", "private")];
        assert_status(&clients[0].send("PUT", "/both-versions", &s3, b""), 200, "a bucket");
        for index in 0..16 {
            let path = format!("/both-versions/{index}");
            assert_status(&clients[index % 2].send("PUT", &path, &s3, b"before"), 200, &path);
        }
        let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        assert_status(&clients[1].send("PUT", "/both-versions?versioning", &s3, enabled), 200, "enabled");
        // At once and on both: what was known of the bucket before holds no more.
        for index in 0..16 {
            let (path, body) = (format!("/both-versions/{index}"), pattern(index * 40_000, index as u64));
            let stored = clients[(index + 1) % 2].send("PUT", &path, &s3, &body);
            let version = stored.header("x-amz-version-id").expect("a version").to_owned();
            for client in &clients {
                let old = client.send("GET", &format!("{path}?versionId=null"), &s3, b"");
                assert_eq!((old.status, old.body.as_slice()), (200, &b"before"[..]), "{path}");
                let new = client.send("GET", &format!("{path}?versionId={version}"), &s3, b"");
                assert!(new.status == 200 && new.body == body, "{path}: other bytes");
            }
            let gone = clients[index % 2].send("DELETE", &path, &s3, b"");
            assert_eq!(gone.header("x-amz-delete-marker"), Some("true"), "{path}");
            let hidden = clients[(index + 1) % 2].send("GET", &path, &s3, b"");
            assert_eq!((hidden.status, hidden.header("x-amz-delete-marker")), (404, Some("true")), "{path}");
        }
        // Pages over both pods, emptied as clients do it.
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let page =
                clients[0].send("GET", &format!("/both-versions?versions&max-keys=7{after}"), &s3, b"");
            assert_status(&page, 200, "a page");
            let text = page.text();
            let of = |text: &str, tag: &str| -> Vec<String> {
                let open = format!("<{tag}>");
                let parts = text.split(open.as_str()).skip(1);
                parts.filter_map(|part| Some(part.split_once('<')?.0.to_owned())).collect()
            };
            for (key, id) in of(&text, "Key").into_iter().zip(of(&text, "VersionId")) {
                let path = format!("/both-versions/{key}?versionId={id}");
                assert_status(&clients[1].send("DELETE", &path, &s3, b""), 204, &path);
                keys.push(key);
            }
            let (Some(key), id) = (of(&text, "NextKeyMarker").pop(), of(&text, "NextVersionIdMarker").pop())
            else {
                break;
            };
            after = format!("&key-marker={key}&version-id-marker={}", id.unwrap_or_default());
        }
        assert_eq!(keys.len(), 48, "{keys:?}");
        assert_status(&clients[0].send("DELETE", "/both-versions", &s3, b""), 204, "empty on both");
    })
    .await;
    stop([lower, upper]).await;
}

/// What comes from an origin replaces what came before, and is no version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_shows_an_origin_keeps_no_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a"), b"shown").expect("a file");
    let text = format!(
        "{{name: no-versions, bucket: shown, source: {{type: file, path: {}}}, ttlSeconds: 0, negativeTtlSeconds: 0}}",
        folder.path().display()
    );
    let (lower, upper) = pair_with(vec![serde_yaml_ng::from_str(&text).expect("an origin")]);
    let clients = [lower.client.clone(), upper.client.clone()];
    let s3 = [("x-amz-acl", "private")];
    let status = move |client: &crate::http::Client| client.send("GET", "/shown?versioning", &s3, b"").text();
    let set = move |client: &crate::http::Client, keeps: &str| {
        let document = format!("<VersioningConfiguration><Status>{keeps}</Status></VersioningConfiguration>");
        client.send("PUT", "/shown?versioning", &s3, document.as_bytes())
    };
    let checks = clients.clone();
    blocking(move || {
        wait_for("the bucket", || {
            checks.iter().all(|one| one.send("HEAD", "/shown", &[], b"").status == 200)
        });
        for client in &checks {
            let refused = set(client, "Enabled");
            assert_status(&refused, 409, "no versions of what an origin shows");
            assert!(refused.text().contains("<Code>InvalidBucketState</Code>"), "{}", refused.text());
            assert_status(&set(client, "Suspended"), 200, "that keeps nothing");
        }
    })
    .await;
    // Set before the resource named the origin, as far as this store knows.
    let bucket = blobstore_sidecar_core::key::BucketName::parse("shown").expect("a name");
    let enabled = blobstore_sidecar_store::Versioning::Enabled;
    let home = if lower.shell.store.set_versioning(&bucket, enabled).await.is_ok() { &lower } else { &upper };
    if std::ptr::eq(home, &upper) {
        upper.shell.store.set_versioning(&bucket, enabled).await.expect("one of them is its home");
    }
    blocking(move || {
        wait_for("no more versions", || status(&clients[0]).contains("Suspended"));
        // Of different lengths: two writes within a tick of the clock may have one time.
        for (body, client) in [(b"one".as_slice(), &clients[0]), (b"number two", &clients[1])] {
            std::fs::write(folder.path().join("a"), body).expect("a file");
            wait_for("the new content", || client.get("/shown/a").body == body);
        }
        let page = clients[0].send("GET", "/shown?versions", &s3, b"").text();
        assert_eq!(page.matches("<Version>").count(), 1, "{page}");
    })
    .await;
    stop([lower, upper]).await;
}
