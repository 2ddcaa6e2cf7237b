//! Local ports that lead to pods' ports through the API server: how a client reaches the pods of a cluster whose
//! network it is not part of. The one-machine cluster needs none.

use std::{collections::BTreeMap, net::SocketAddr};

use ::kube::{Api, ResourceExt};
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

use crate::error::{Error, Result};

/// Connections at once per tunnel: each is a WebSocket to the API server, and the demonstration uses a handful.
const LINKS_MAX: usize = 32;

/// One tunnel per pod and port, kept open for as long as the scope that asked for it.
#[derive(Debug, Default)]
pub struct Tunnels(Mutex<BTreeMap<(String, u16), Tunnel>>);

#[derive(Debug)]
struct Tunnel {
    address: SocketAddr,
    _links: JoinSet<()>,
}

impl Tunnels {
    /// The local address that leads to this very pod: one of the same name gets another.
    pub async fn to(&self, pods: &Api<Pod>, pod: &Pod, port: u16) -> Result<SocketAddr> {
        let key = (pod.uid().unwrap_or_default(), port);
        let mut open = self.0.lock().await;
        if let Some(tunnel) = open.get(&key) {
            return Ok(tunnel.address);
        }
        let local = ("127.0.0.1", 0);
        let listener = TcpListener::bind(local).await.map_err(Error::io("listen on", "127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::io("look at", "the listener"))?;
        let mut links = JoinSet::new();
        links.spawn(serve(listener, pods.clone(), pod.name_any(), port));
        open.insert(key, Tunnel { address, _links: links });
        Ok(address)
    }
}

async fn serve(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if links.len() < LINKS_MAX => {
                let Ok((stream, _)) = accepted else { return };
                links.spawn(link(stream, pods.clone(), pod.clone(), port));
            }
            Some(_) = links.join_next() => {}
        }
    }
}

/// One connection, until either side ends it; a pod that is gone ends it at once.
async fn link(mut stream: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let Ok(mut forwarder) = pods.portforward(&pod, &[port]).await else { return };
    if let Some(mut remote) = forwarder.take_stream(port) {
        drop(copy_bidirectional(&mut stream, &mut remote).await);
    }
    forwarder.abort();
}
