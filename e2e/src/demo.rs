//! `make demo`: the product in one go, for a person to watch. Cluster, images, chart, a store, a real file in
//! and out again, whole and in part, with its checksums; then a leak that heals itself.

mod loop_closed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ::kube::api::PostParams;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::RANGE};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::{
    cluster::{self, Cluster},
    error::{Error, Result},
    helm,
    http::{Contents, Http},
    hygiene,
    image::Image,
    images,
    kind::Kind,
    namespace::Scope,
    paths::Paths,
    payload::{self, Checksum},
    process, progress,
    store::{self, Store},
};

const NAMESPACE: &str = "demo";
/// Ready in under 10 s on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// At least this much, so that the file is cut into hundreds of chunks.
const FILE_BYTES_MIN: u64 = 50 * 1024 * 1024;
/// What machines have of documentation, largest first; the last ones make up for a machine without.
const SOURCES: &[&str] = &["/usr/share/doc", "/usr/share/man", "/usr/share/perl", "/usr/share", "/usr/lib"];

pub async fn run(paths: &Paths) -> Result<()> {
    let cluster = prepare(paths).await?;
    let kubectl = cluster.kubectl();
    let scope = scope(cluster).await?;
    let mut spec = store::spec(1, 1);
    spec["hygiene"] = hygiene::quick("Observe");
    // From nothing: what an earlier run left would be Ready at once.
    let old = Store { scope: scope.clone(), name: "demo".to_owned() };
    old.delete().await?;
    old.wait_gone(READY_LIMIT).await?;
    let store = Store::create(&scope, "demo", &spec).await?;
    let took = store.wait_ready(READY_LIMIT).await?;
    progress::say(&format!("BlobStore demo is Ready: 1 shard, 1 replica, {:.1} s", took.as_secs_f64()));
    file_in_and_out(&store).await?;
    loop_closed::run(&store).await?;
    progress::say(&format!("done; the store stays: `{kubectl} -n {NAMESPACE} describe blobstore demo`"));
    Ok(())
}

/// The context that was named (its nodes have the images, or can pull them), else a cluster of kind where there is
/// one to be had, else the one-machine cluster; images and chart on it.
async fn prepare(paths: &Paths) -> Result<Cluster> {
    let named = std::env::var_os(cluster::CONTEXT).is_some_and(|name| !name.is_empty());
    let kind = Kind::default();
    let cluster = if named {
        cluster::attach().await?
    } else if kind.is_present().await {
        let _lock = cluster::locked(paths).await?;
        let kubeconfig = kind.up(paths).await?;
        for image in images::engines().into_iter().chain(built().await?) {
            kind.load(paths, &image).await?;
        }
        cluster::of_kind(paths.clone(), kubeconfig)
    } else {
        let _lock = cluster::locked(paths).await?;
        let cluster = cluster::up(paths).await?;
        for image in built().await? {
            images::load(paths, &image).await?;
        }
        cluster
    };
    helm::install(&cluster, &json!({})).await?;
    progress::say("chart installed, operator ready");
    Ok(cluster)
}

async fn built() -> Result<Vec<Image>> {
    progress::say("building operator and sidecar (minutes the first time)");
    images::build_own().await
}

async fn scope(cluster: Cluster) -> Result<Scope> {
    let client = cluster.client().await?;
    let namespaces: ::kube::Api<Namespace> = ::kube::Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))
        .map_err(Error::other("describe a namespace"))?;
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(::kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(Error::kube(format!("create namespace {NAMESPACE}"))(error)),
    }
    Ok(Scope { cluster: cluster.into(), client, namespace: NAMESPACE.to_owned(), tunnels: Arc::default() })
}

async fn file_in_and_out(store: &Store) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::io("make a folder for", "the file"))?;
    let file = make_file(folder.path()).await?;
    let contents = std::fs::read(&file).map_err(Error::io("read", &file))?;
    let whole = payload::checksum(&contents);
    progress::say(&format!("made a file of {:.1} MiB from this machine's documentation", mib(whole.size)));
    let urls = store.urls().await?;
    let (Some(first), Some(last)) = (urls.first(), urls.last()) else {
        return Err(Error::Wrong("the store is ready and has no ready pod".to_owned()));
    };
    let http = store.http().await?;
    store.make_bucket("demo").await?;
    let part = contents.len() / 3..contents.len() / 3 + contents.len() / 7;
    let want = payload::checksum(&contents[part.clone()]);
    let start = Instant::now();
    let answer = http.put(&format!("{first}/demo/file.tar"), Contents::Bytes(contents.into())).await?;
    expect(answer.status.is_success(), &format!("PUT answered {}", answer.status))?;
    shown("PUT", whole, start);
    // Read at the other pod: it forwards to the owner, or answers from its cache.
    read(&http, last, None, whole).await?;
    read(&http, first, Some(format!("bytes={}-{}", part.start, part.end - 1)), want).await
}

async fn read(http: &Http, base: &str, range: Option<String>, want: Checksum) -> Result<()> {
    let mut headers = HeaderMap::new();
    let (label, status) = match &range {
        None => ("GET".to_owned(), StatusCode::OK),
        Some(range) => (format!("GET {range}"), StatusCode::PARTIAL_CONTENT),
    };
    if let Some(range) = range {
        headers.insert(RANGE, HeaderValue::from_str(&range).map_err(Error::other("use a range"))?);
    }
    let start = Instant::now();
    let answer = http.send(Method::GET, &format!("{base}/demo/file.tar"), headers, Contents::None).await?;
    expect(answer.status == status, &format!("{label} answered {}", answer.status))?;
    let found = answer.checksum().await?;
    expect(found == want, &format!("{label}: checksum {found:?}, expected {want:?}"))?;
    shown(&label, found, start);
    Ok(())
}

fn shown(what: &str, sum: Checksum, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let rate = mib(sum.size) / seconds.max(f64::EPSILON);
    progress::say(&format!("{what}: {:.1} MiB, {rate:.0} MiB/s, checksum {:032x}", mib(sum.size), sum.hash));
}

fn expect(held: bool, otherwise: &str) -> Result<()> {
    if held { Ok(()) } else { Err(Error::Wrong(otherwise.to_owned())) }
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1024 * 1024)
}

/// A tar of the first folders that together are large enough.
async fn make_file(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("file.tar");
    let path = file.display().to_string();
    for count in 1..=SOURCES.len() {
        let sources = &SOURCES[..count];
        let there: Vec<&str> = sources.iter().copied().filter(|path| Path::new(path).exists()).collect();
        process::run(
            "tar",
            &[&["--absolute-names", "--create", "--file", path.as_str()], there.as_slice()].concat(),
        )
        .await?;
        let size = std::fs::metadata(&file).map_err(Error::io("look at", &file))?.len();
        if size >= FILE_BYTES_MIN {
            return Ok(file);
        }
    }
    Err(Error::Wrong(format!("this machine has no {} MiB to make a file of", FILE_BYTES_MIN >> 20)))
}
