//! Read-through origins in real pods, with credentials from mounted Secrets: the origin is another store of the same
//! namespace, which knows its users. And a soft rung of the ladder, asked of a pod that has cached what it read.

use std::time::{Duration, Instant};

use blobstore_e2e::{
    error::{Error, Result},
    http::Contents,
    namespace::{self, Scope},
    payload::Payload,
    progress,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_sidecar_api::ports;
use serde_json::{Value, json};

const READY_LIMIT: Duration = Duration::from_secs(180);
const READ_LIMIT: Duration = Duration::from_secs(60);
/// In the record, in one chunk, in many.
const SIZES: &[u64] = &[1_000, 262_080, 9_000_000];

#[tokio::test(flavor = "multi_thread")]
async fn origins_are_read_with_mounted_credentials_and_their_copies_outlive_them() {
    namespace::with_operator("origins", |scope| async move {
        let far = Store::create(&scope, "far", &store::spec(1, 0)).await?;
        far.wait_ready(READY_LIMIT).await?;
        far.make_bucket("library").await?;
        for payload in payloads() {
            put(&far, payload).await?;
        }
        let url =
            far.resource_json().await?["status"]["endpoints"]["http"].as_str().unwrap_or_default().to_owned();
        secret(&scope, &far).await?;
        let near = Store::create(&scope, "near", &near(&url)).await?;
        // Ready is told when the shard serves; that the kubelet sees it, and clients find a pod, may take a second more.
        near.wait_redundant(READY_LIMIT).await?;
        for bucket in ["s3", "web"] {
            let start = Instant::now();
            read_all(&near, bucket).await?;
            progress::say(&format!(
                "{bucket}: read from the origin in {:.2} s",
                start.elapsed().as_secs_f64()
            ));
        }
        refused(&near).await?;
        far.delete().await?;
        far.wait_gone(READY_LIMIT).await?;
        for bucket in ["s3", "web"] {
            read_all(&near, bucket).await?;
        }
        progress::say("all copies are served although the origin is gone");
        trimmed(&near).await
    })
    .await
    .expect("origins in pods");
}

fn payloads() -> impl Iterator<Item = Payload> {
    SIZES.iter().zip(1..).map(|(size, seed)| Payload { seed, size: *size })
}

fn name(payload: Payload) -> String {
    format!("of/{}", payload.size)
}

async fn put(far: &Store, payload: Payload) -> Result<()> {
    let urls = far.urls_of(1, READY_LIMIT).await?;
    let url = format!("{}/library/{}", urls[0], name(payload));
    let answer = far.http().await?.ask_put(&url, &Contents::Payload(payload)).await?;
    assert!(answer.status.is_success(), "PUT answered {}", answer.status);
    Ok(())
}

/// The keys of the origin's own user, under the names that origins know; and a token that nobody has.
async fn secret(scope: &Scope, far: &Store) -> Result<()> {
    let users: Value = serde_yaml_ng::from_str(&far.secret(ports::SECRET_USERS).await?)
        .map_err(Error::other("read users.yaml"))?;
    let user = &users[0];
    let token = user["token"].as_str().unwrap_or_default();
    let all = [
        ("far-keys", json!({ "accessKey": user["accessKey"], "secretKey": user["secretKey"] })),
        ("far-token", json!({ "authorization": format!("Bearer {token}") })),
        ("no-token", json!({ "authorization": "Bearer nobody" })),
    ];
    for (name, data) in all {
        let resource = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data,
        });
        scope.apply(&resource.to_string()).await?;
    }
    Ok(())
}

/// Two pods: what one of them does not own it asks of the other.
fn near(url: &str) -> Value {
    let origin = |name: &str, secret: &str, kind: (&str, Value)| {
        let mut origin = json!({ "name": name, "bucket": name, "credentialsSecret": { "name": secret }, "immutable": true });
        origin[kind.0] = kind.1;
        origin
    };
    let web = || ("http", json!({ "url": format!("{url}/library") }));
    let mut spec = store::spec(1, 1);
    spec["origins"] = json!([
        origin("s3", "far-keys", ("s3", json!({ "bucket": "library", "endpoint": url }))),
        origin("web", "far-token", web()),
        origin("refused", "no-token", web()),
    ]);
    spec
}

/// Every blob through every pod, to the last byte.
async fn read_all(near: &Store, bucket: &str) -> Result<()> {
    let (http, urls) = (near.http().await?, near.urls_of(2, READY_LIMIT).await?);
    for url in urls {
        for payload in payloads() {
            let url = format!("{url}/{bucket}/{}", name(payload));
            wait::until(format!("{url} is read"), READ_LIMIT, || async {
                let answer = http.get(&url).await?;
                if !answer.status.is_success() {
                    return Ok(Seen::NotYet(format!("GET answered {}", answer.status)));
                }
                assert_eq!(answer.checksum().await?, payload.checksum(), "{url}");
                Ok(Seen::Yes(()))
            })
            .await?;
        }
    }
    Ok(())
}

/// The origin's refusal is told as such, not as an object that is not there.
async fn refused(near: &Store) -> Result<()> {
    let urls = near.urls_of(2, READY_LIMIT).await?;
    let answer = near.http().await?.ask_get(&format!("{}/refused/of/1000", urls[0])).await?;
    assert_eq!(answer.status.as_u16(), 502, "the origin knows no such token");
    Ok(())
}

/// What the rung `Trim` asks of a pod: its caches give back a fifth or more, and nothing is lost by it.
async fn trimmed(near: &Store) -> Result<()> {
    let name = near.primary(0).await?;
    let pod = near.scope.pods().get(&name).await.map_err(Error::kube("get the primary"))?;
    let start = Instant::now();
    let answer = near.admin_post(&pod, "/v1/actions/trim", &json!({ "id": "by-hand-1" })).await?;
    let told: Value =
        serde_json::from_slice(&answer.bytes().await?).map_err(Error::other("read the result"))?;
    let cache = |when: &str| told[when]["cache_bytes"].as_f64().unwrap_or(-1.0);
    let (before, after) = (cache("before"), cache("after"));
    assert!(before > 1_000_000.0 && after >= 0.0 && after <= before * 0.85, "{told}");
    let seconds = start.elapsed().as_secs_f64();
    progress::say(&format!("Trim of {name}: cache_bytes from {before:.0} to {after:.0} in {seconds:.2} s"));
    read_all(near, "s3").await
}
