//! What every pod's sidecar says, asked side by side. No answer is `Unknown` and proves nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use blobstore_operator_core::observed::{PodSeen, Seen};
use blobstore_sidecar_api::ports::{ADMIN_PORT, SECRET_ADMIN_TOKEN};
use futures::StreamExt;

use crate::error::chain;
use crate::sidecar_client::{AdminToken, Sidecar, SidecarError};

/// Sockets of one pass. With eight passes at once: 256 in all, far below any file limit.
const SIDECARS_CONCURRENT_MAX: usize = 32;

/// The sidecar at `ip`, if the store's Secret and the address can be read.
pub fn sidecar(ip: &str, auth: &Seen<BTreeMap<String, Vec<u8>>>) -> Option<Sidecar> {
    let token = auth.present()?.get(SECRET_ADMIN_TOKEN)?;
    let token = AdminToken::new(std::str::from_utf8(token).ok()?);
    let ip: IpAddr = ip.parse().ok()?;
    Some(Sidecar { address: SocketAddr::new(ip, ADMIN_PORT), token })
}

/// The pods, with topology and report filled in where a sidecar answered.
pub(super) async fn ask_all(pods: Vec<PodSeen>, auth: &Seen<BTreeMap<String, Vec<u8>>>) -> Vec<PodSeen> {
    let asked = futures::stream::iter(pods).map(|mut pod| {
        let sidecar = pod.ip.as_deref().and_then(|ip| sidecar(ip, auth));
        async move {
            let Some(sidecar) = sidecar else { return pod };
            let (topology, report) = futures::join!(sidecar.topology(), sidecar.report());
            // A pod's address may be another pod's by now: an answer must name the pod that was asked.
            pod.topology = heard(&pod.name, topology, |topology| &topology.pod);
            pod.report = heard(&pod.name, report, |report| &report.pod);
            pod
        }
    });
    asked.buffered(SIDECARS_CONCURRENT_MAX).collect().await
}

fn heard<T>(pod: &str, answer: Result<T, SidecarError>, name: impl Fn(&T) -> &String) -> Seen<T> {
    match answer {
        Ok(answer) if name(&answer) == pod => Seen::Present(answer),
        Ok(answer) => {
            tracing::warn!(pod, answered = name(&answer), "another pod answered at this address");
            Seen::Unknown
        }
        Err(error) => {
            tracing::debug!(pod, error = %chain(&error), "ask a sidecar");
            Seen::Unknown
        }
    }
}
