//! The other rungs of the ladder, each on a real engine in a real pod: the fault goes in under `Observe`, which names
//! it and touches nothing; `Auto` takes the rung that fits and measures its effect. Every step prints its time.

use std::time::{Duration, Instant};

use blobstore_e2e::{
    error::{Error, Result},
    hygiene::{self, Fault},
    images,
    load::{Load, Plan},
    namespace::{self, Scope},
    orphans, progress,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::{
    spec::Rung,
    status::{Remedy, RemedyResult},
};
use blobstore_sidecar_api::ports;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const READY_LIMIT: Duration = Duration::from_secs(180);
const VERDICT_LIMIT: Duration = Duration::from_secs(120);
/// More than a remedy's deadline here.
const REMEDY_LIMIT: Duration = Duration::from_secs(180);
/// Two restarts: each a pod more, a copy of the data, an eviction and a pod less.
const RESTARTS_LIMIT: Duration = Duration::from_secs(300);
const WRITES: u64 = 20;
/// 50 MiB of replies that nobody reads: more than ten times what one client may hold here.
const REPLIES: usize = 200;
/// 120 MiB of small values that come and go at once: the pages stay.
const BULK: Values = Values { keys: 30_000, bytes: 4_000 };
/// Small values of which one in 32 stays, spread over all slabs: 3 % of the data holds 100 % of the pages.
const HOLED: Values = Values { keys: 250_000, bytes: 120 };
/// A tag of the partition table; any will do where one shard owns all slots.
const TAG: &str = "{cv}";

#[derive(Debug, Clone, Copy)]
struct Values {
    keys: u64,
    bytes: u64,
}

impl Values {
    /// So many in one script: 8 MB keep the engine's loop short, on a machine with too much to do as well. Who does not
    /// answer for two seconds is taken for dead, and the primary would be another pod.
    fn step(self) -> u64 {
        (8_000_000 / self.bytes).clamp(1, 10_000)
    }
}

/// Times of seconds and sizes that fit into the smallest engine; restarts may follow one another.
fn spec() -> Value {
    let mut spec = store::spec(1, 1);
    spec["hygiene"] = hygiene::quick("Observe");
    let sizes = json!({
        "clientBuffersBytesMin": "32Mi", "clientBytesMax": "4Mi", "retainedBytesMin": "16Mi",
        "fragmentedBytesMin": "8Mi", "fragmentedUsedBytesMin": "4Mi", "balanceHold": "2s",
    });
    for (name, value) in sizes.as_object().into_iter().flatten() {
        spec["hygiene"]["thresholds"][name] = value.clone();
    }
    spec["hygiene"]["budgets"] = json!({ "restartPercentPerHour": 100, "restartsPerDay": 4 });
    spec["hygiene"]["cooldowns"] = json!({ "soft": "5s", "restart": "10s", "failover": "10s" });
    // What a busy machine is late to show is not ineffective: the next rung would restart the pod.
    spec["hygiene"]["deadlines"] = json!({ "killClients": "120s", "purge": "120s" });
    spec
}

async fn ready(scope: &Scope, name: &str, spec: &Value) -> Result<Store> {
    let store = Store::create(scope, name, spec).await?;
    store.wait_ready(READY_LIMIT).await?;
    store.wait_redundant(READY_LIMIT).await?;
    Ok(store)
}

/// Named under `Observe`, which does nothing; from then on under `Auto`.
async fn named(store: &Store, fault: Fault<'_>, injected: Instant) -> Result<Instant> {
    let (finding, seen) = hygiene::wait_finding(store, fault, VERDICT_LIMIT).await?;
    assert!(!finding.evidence.is_empty(), "{finding:?}");
    assert!(seen.last_actions.is_empty(), "Observe does nothing: {seen:?}");
    let seconds = injected.elapsed().as_secs_f64();
    progress::say(&format!("{fault}: {} MiB, named after {seconds:.1} s", finding.mib));
    let start = Instant::now();
    store.merge(&json!({ "spec": { "hygiene": { "mode": "Auto" } } })).await?;
    Ok(start)
}

/// Named, then the effective remedy of that very pod.
async fn named_and_healed(store: &Store, fault: Fault<'_>, injected: Instant) -> Result<Remedy> {
    let start = named(store, fault, injected).await?;
    let remedy = hygiene::wait_effective(store, fault, REMEDY_LIMIT).await?;
    let seconds = start.elapsed().as_secs_f64();
    progress::say(&format!("{fault}: effective {seconds:.1} s after Auto, {}", shown(&remedy)));
    Ok(remedy)
}

fn shown(remedy: &Remedy) -> String {
    let Remedy { rung, pod, figure, before, after, .. } = remedy;
    format!("{rung:?} of {pod}: {figure} from {before:.0} to {:.0}", after.unwrap_or(-1.0))
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_reads_nothing_is_named_and_closed() {
    namespace::with_operator("clients", |scope| async move {
        scope.cluster.machine()?;
        let store = ready(&scope, "clients", &spec()).await?;
        let primary = store.primary(0).await?;
        let mut client = engine_connection(&store, &primary).await?;
        let start = Instant::now();
        let ask = "EVAL \"return string.rep('x', 262144)\" 0\r\n".repeat(REPLIES);
        client.write_all(ask.as_bytes()).await.map_err(Error::other("ask the engine"))?;
        let fault = Fault { class: "ClientBuffers", pod: &primary };
        assert_eq!(named_and_healed(&store, fault, start).await?.rung, Rung::KillClients);
        store.wait_redundant(READY_LIMIT).await.map(drop)
    })
    .await
    .expect("a client that is closed");
}

/// A client of the engine's TCP port with the sidecar's credentials: what a debugging person would have.
async fn engine_connection(store: &Store, pod: &str) -> Result<TcpStream> {
    let seen = store.scope.pods().get(pod).await.map_err(Error::kube(format!("get {pod}")))?;
    let address = seen.status.and_then(|status| status.pod_ip).unwrap_or_default();
    let to = (address.as_str(), ports::ENGINE_PORT);
    let mut stream = TcpStream::connect(to).await.map_err(Error::io("connect to", &address))?;
    let password = store.secret(ports::SECRET_ENGINE_PASSWORD).await?;
    let login = format!("AUTH {} {}\r\n", ports::ENGINE_USER, password.trim());
    stream.write_all(login.as_bytes()).await.map_err(Error::other("log in at the engine"))?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_a_bulk_delete_left_are_purged() {
    namespace::with_operator("pages", |scope| async move {
        let mut spec = spec();
        spec["engine"]["image"] = json!(images::ENGINE_KEEPING_PAGES);
        let store = ready(&scope, "pages", &spec).await?;
        let primary = store.primary(0).await?;
        fill(&store, &primary, BULK).await?;
        let start = Instant::now();
        thin(&store, &primary, BULK, 0).await?;
        let before = orphans::memory(&store, &primary, "used_memory_rss").await?;
        // The replica deleted as much and may be purged first.
        let fault = Fault { class: "RetainedPages", pod: &primary };
        assert_eq!(named_and_healed(&store, fault, start).await?.rung, Rung::Purge);
        let after = orphans::memory(&store, &primary, "used_memory_rss").await?;
        assert!(after + (16 << 20) < before, "RSS from {before} to {after}");
        Ok(())
    })
    .await
    .expect("pages that go back");
}

#[tokio::test(flavor = "multi_thread")]
async fn fragmented_engines_are_restarted_one_after_the_other_under_load() {
    namespace::with_operator("holes", |scope| async move {
        let store = ready(&scope, "holes", &spec()).await?;
        let primary = store.primary(0).await?;
        let plan = Plan { writers: 2, sizes: vec![65_536, 262_080], keys_per_writer: 8, ..Plan::default() };
        let load = Load::of(&store, plan).await?;
        load.wait_writes(WRITES, READY_LIMIT).await?;
        fill(&store, &primary, HOLED).await?;
        let start = Instant::now();
        thin(&store, &primary, HOLED, 32).await?;
        named(&store, Fault { class: "Fragmented", pod: &primary }, start).await?;
        let [replica, handed_over] = wait_restarts(&store).await?;
        assert_eq!(handed_over.pod, primary, "the old primary was restarted once it was one no more");
        assert!(
            time(&replica.started_at)? < time(&handed_over.started_at)?,
            "the primary hands over to a replica that is well: {replica:?}, then {handed_over:?}"
        );
        let both = start.elapsed().as_secs_f64();
        store.wait_redundant(READY_LIMIT).await?;
        load.wait_writes(WRITES, READY_LIMIT).await?;
        let report = load.finish().await?;
        [replica, handed_over].iter().for_each(|one| progress::say(&shown(one)));
        report.show(&format!("both engines restarted {both:.1} s after the fault"));
        assert_ne!(store.primary(0).await?, primary, "the old primary handed over");
        report.check()
    })
    .await
    .expect("restarts without a loss");
}

/// The replica's restart and the primary's, both effective.
async fn wait_restarts(store: &Store) -> Result<[Remedy; 2]> {
    hygiene::wait_remediation(store, "both engines were restarted with effect", RESTARTS_LIMIT, |all| {
        let done = |rung: Rung| {
            let is_it = |one: &&Remedy| one.rung == rung && one.result == RemedyResult::Effective;
            all.last_actions.iter().find(is_it).cloned()
        };
        Some([done(Rung::RestartReplica)?, done(Rung::FailoverAndRestart)?])
    })
    .await
}

fn time(text: &str) -> Result<jiff::Timestamp> {
    text.parse().map_err(Error::other(format!("read the time {text:?}")))
}

/// Values made inside the engine: no payload passes a command line.
async fn fill(store: &Store, pod: &str, values: Values) -> Result<()> {
    let script = "for i = 1, tonumber(ARGV[1]) do \
                  redis.call('SET', ARGV[3] .. i, string.rep('x', tonumber(ARGV[2]))) end return 'OK'";
    in_steps(store, pod, script, values, values.bytes).await?;
    let first = format!("bulk:{TAG}:0:1");
    wait::until("the values are there", READY_LIMIT, || async {
        let found = store.engine(pod, &["EXISTS", &first]).await?;
        Ok(Seen::when(found.trim() == "1", (), || found))
    })
    .await
}

/// Deletes all of them but one in `keep`; 0 keeps none.
async fn thin(store: &Store, pod: &str, values: Values, keep: u64) -> Result<()> {
    let script = "local keep = tonumber(ARGV[2]) for i = 1, tonumber(ARGV[1]) do \
                  if keep == 0 or i % keep > 0 then redis.call('DEL', ARGV[3] .. i) end end return 'OK'";
    in_steps(store, pod, script, values, keep).await
}

async fn in_steps(store: &Store, pod: &str, script: &str, values: Values, argument: u64) -> Result<()> {
    let (size, argument) = (values.step(), argument.to_string());
    for step in 0..values.keys.div_ceil(size) {
        let prefix = format!("bulk:{TAG}:{step}:");
        let count = size.min(values.keys - step * size).to_string();
        let key = format!("{prefix}1");
        store.engine(pod, &["EVAL", script, "1", &key, &count, &argument, &prefix]).await?;
    }
    Ok(())
}
