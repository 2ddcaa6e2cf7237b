//! The harness's own background process, part of a running cluster: provisions volumes and keeps the list
//! of what Prometheus scrapes.

use nix::sys::signal::Signal;

use crate::{
    client,
    error::{Error, Result},
    paths::Paths,
    process, provision, scrape,
};

const PROCESS: &str = "agent";
/// The process that a healthy cluster runs for volumes and targets.
pub const EXPECTED: &[&str] = &[PROCESS];

/// Starts this very program as the agent.
pub fn start(paths: &Paths) -> Result<()> {
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    process::start(paths, PROCESS, &program, &["agent".to_owned()])?;
    Ok(())
}

pub async fn stop(paths: &Paths) -> Result<()> {
    process::end(paths, PROCESS, Signal::SIGTERM).await
}

/// Until it is ended, or one of the two gives up for good.
pub async fn serve(paths: &Paths) -> Result<()> {
    let client = client::from_kubeconfig(&paths.kubeconfig()).await?;
    let volumes = Box::pin(provision::serve(paths, client.clone()));
    let targets = Box::pin(scrape::serve(paths, client));
    futures::future::try_join(volumes, targets).await?;
    Ok(())
}
