//! `blobstore-e2e`: the one-machine cluster from the command line.

use std::{io::Write, process::ExitCode};

use blobstore_e2e::{
    agent, cluster, controlplane, demo,
    error::{Error, Result},
    images, node,
    paths::Paths,
    progress,
};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "blobstore-e2e", about = "A real Kubernetes on one machine, for BlobStore's tests and demo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the cluster, or find it healthy
    Up,
    /// Take the cluster down, all of it
    Down,
    /// Show processes, nodes and paths
    Status,
    /// Build the operator's and the sidecar's image and load them into every node
    Images,
    /// Show the product: cluster, chart, a store, a file in and out
    Demo,
    /// Provision volumes and list scrape targets (started by `up`)
    #[command(hide = true)]
    Agent,
    /// Stop the API server
    ApiStop,
    /// Start the API server again
    ApiStart,
    /// A node loses its power
    NodeLose { name: String },
    /// A lost node boots again
    NodeBack { name: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    // The client logs every refused connection as an error; the waits say what matters.
    let filter = EnvFilter::new("warn,kube_client=off");
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    progress::elapsed();
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("failed: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    let paths = Paths::from_env()?;
    match command {
        Command::Up => {
            let _lock = cluster::locked(&paths).await?;
            cluster::up(&paths).await.map(drop)
        }
        Command::Down => {
            let _lock = cluster::locked(&paths).await?;
            cluster::down(&paths).await
        }
        Command::Status => print(&cluster::status(&paths).await?),
        Command::Images => load_images(&paths).await,
        Command::Demo => demo::run(&paths).await,
        Command::Agent => agent::serve(&paths).await,
        Command::ApiStop => controlplane::stop_api_server(&paths).await,
        Command::ApiStart => controlplane::start_api_server(&paths).await,
        Command::NodeLose { name } => node::lose(&paths, node::number(&name)?).await,
        Command::NodeBack { name } => node::bring_back(&paths, node::number(&name)?).await,
    }
}

async fn load_images(paths: &Paths) -> Result<()> {
    cluster::attach().await?.machine()?;
    for image in images::build_own().await? {
        images::load(paths, &image).await?;
    }
    progress::say("images are loaded");
    Ok(())
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(Error::io("write to", "standard output"))
}
