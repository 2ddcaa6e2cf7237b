//! The cluster is real: pods on three nodes in three zones, traffic, names, volumes, exec, logs, a node
//! that loses its power. What the store's own tests stand on.

use std::{collections::BTreeSet, time::Duration};

use ::kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use blobstore_e2e::{
    client,
    error::{Error, Result},
    namespace::{self, Scope},
    wait::{self, Seen},
};
use k8s_openapi::api::core::v1::{Node, Pod};

/// Ready 2 s after the apply on an idle machine; the rest is for neighbours that compile.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The proxy writes its rules at most once a second, names follow the endpoints; the rest is for a loaded machine.
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

const ENGINES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: engine}
spec:
  selector: {app: engine}
  ports: [{name: redis, port: 6379}]
---
apiVersion: v1
kind: Service
metadata: {name: engines}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: engine}
  ports: [{name: redis, port: 6379}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: engine}
spec:
  serviceName: engines
  podManagementPolicy: Parallel
  replicas: 3
  selector: {matchLabels: {app: engine}}
  template:
    metadata: {labels: {app: engine}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext: {runAsUser: 65532, runAsNonRoot: true, fsGroup: 65532}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: topology.kubernetes.io/zone
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {matchLabels: {app: engine}}
      containers:
        - name: engine
          image: localhost/redis:e2e
          args: [--dir, /data, --appendonly, "yes", --appendfsync, always, --protected-mode, "no"]
          ports: [{containerPort: 6379}]
          resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 64Mi}}
          readinessProbe:
            exec: {command: [redis-cli, ping]}
            periodSeconds: 3
            timeoutSeconds: 10
          volumeMounts: [{name: data, mountPath: /data}]
        - name: beside
          image: localhost/redis:e2e
          args: [--port, "7000", --save, "", --protected-mode, "no"]
          ports: [{containerPort: 7000}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 100Mi}}
"#;

async fn ready_pods(scope: &Scope, count: usize) -> Result<Vec<Pod>> {
    let pods = scope.pods();
    wait::until(format!("{count} pods are ready"), READY_LIMIT, || {
        let pods = pods.clone();
        async move {
            let all = pods.list(&ListParams::default()).await.map_err(Error::kube("list pods"))?;
            let ready: Vec<Pod> = all.items.into_iter().filter(client::is_pod_ready).collect();
            let seen = format!("{} ready", ready.len());
            Ok(Seen::when(ready.len() == count, ready, || seen))
        }
    })
    .await
}

async fn redis(scope: &Scope, pod: &str, arguments: &[&str]) -> Result<String> {
    let command = [&["redis-cli"], arguments].concat();
    let answer = client::exec(&scope.pods(), pod, "engine", &command).await?;
    Ok(answer.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_spread_over_three_zones_and_reach_each_other_by_address_service_and_name() {
    namespace::with("cluster", |scope| async move {
        scope.apply(ENGINES).await?;
        let pods = ready_pods(&scope, 3).await?;
        assert_eq!(zones_of(&scope, &pods).await?.len(), 3, "one pod in each zone");
        for (index, pod) in pods.iter().enumerate() {
            let name = format!("engine-{index}");
            redis(&scope, &name, &["set", "who", &name]).await?;
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("an address");
            let pong = redis(&scope, "engine-0", &["-h", &address, "ping"]).await?;
            assert_eq!(pong, "PONG", "pod to pod");
        }
        // The name is served a moment after the pod has its address.
        wait::until("the pod's own name is known", SERVICE_LIMIT, || async {
            let pong = redis(&scope, "engine-0", &["-h", "engine-2.engines", "ping"]).await?;
            Ok(Seen::when(pong == "PONG", (), || pong))
        })
        .await?;
        let by_name = redis(&scope, "engine-0", &["-h", "engine-2.engines", "get", "who"]).await?;
        assert_eq!(by_name, "engine-2", "a pod's own name");
        // The proxy learns of ready pods a moment after their readiness. Then many times: the Service must work for
        // the client's own node and the others.
        wait::until("the Service answers", SERVICE_LIMIT, || async {
            redis(&scope, "engine-1", &["-h", "engine", "ping"]).await.map(Seen::Yes)
        })
        .await?;
        for _ in 0..12 {
            assert_eq!(redis(&scope, "engine-1", &["-h", "engine", "ping"]).await?, "PONG", "the Service");
        }
        let log = client::logs(&scope.pods(), "engine-0", "beside", false).await?;
        assert!(log.contains("Ready to accept connections"), "{log}");
        let refused =
            client::exec(&scope.pods(), "engine-0", "engine", &["redis-cli", "-p", "1", "ping"]).await;
        assert!(refused.is_err(), "an exit code other than 0 is an error");
        Ok(())
    })
    .await
    .expect("a real cluster");
}

async fn zones_of(scope: &Scope, pods: &[Pod]) -> Result<BTreeSet<String>> {
    let nodes: Api<Node> = Api::all(scope.client.clone());
    let mut zones = BTreeSet::new();
    for pod in pods {
        let name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let node = nodes.get(&name).await.map_err(Error::kube("get node"))?;
        zones.extend(
            node.metadata.labels.and_then(|labels| labels.get("topology.kubernetes.io/zone").cloned()),
        );
    }
    Ok(zones)
}

#[tokio::test(flavor = "multi_thread")]
async fn volume_survives_its_pod() {
    namespace::with("volume", |scope| async move {
        scope.apply(ENGINES).await?;
        let before = ready_pods(&scope, 3).await?;
        assert_eq!(redis(&scope, "engine-1", &["set", "kept", "yes"]).await?, "OK");
        let uid = before[1].metadata.uid.clone();
        let at_once = DeleteParams::default().grace_period(0);
        client::delete(&scope.pods(), "engine-1", &at_once).await?;
        wait::until("another engine-1 is ready", READY_LIMIT, || async {
            let pod = scope.pods().get_opt("engine-1").await.map_err(Error::kube("get engine-1"))?;
            let new = pod.is_some_and(|pod| pod.metadata.uid != uid && client::is_pod_ready(&pod));
            Ok(Seen::when(new, (), || "not yet".to_owned()))
        })
        .await?;
        assert_eq!(redis(&scope, "engine-1", &["get", "kept"]).await?, "yes", "the claim's data");
        Ok(())
    })
    .await
    .expect("claims that hold");
}
