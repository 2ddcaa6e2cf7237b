//! `make bench`: the data plane beside nginx, Varnish, webdis, versitygw, MinIO and `redis-benchmark` on the same
//! engine, in interleaved rounds of one run, and what it holds in memory. Prints Markdown, and writes it with the
//! figures as JSON and a picture.

mod case;
mod chart;
mod child;
mod goal;
mod load;
mod machine;
mod measure;
mod memory;
mod presign;
mod report;
mod servers;
mod whole;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::measure::Plan;

#[derive(Debug, Parser)]
#[command(
    about = "Throughput and memory of the data plane beside what a user would pick instead, in one run"
)]
struct Args {
    /// The release build of the sidecar.
    #[arg(long, default_value = "target/release/blobstore-sidecar")]
    sidecar: PathBuf,
    /// The engine that the sidecar starts; empty leaves the choice to it.
    #[arg(long, default_value = "")]
    engine: String,
    /// Concurrent connections of every generator.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Rounds, each of which runs every measure once; the table holds their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measure in one round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds of a hundred uploads and downloads at once; 0 leaves out all rows of memory.
    #[arg(long, default_value_t = 3)]
    memory_rounds: usize,
    /// Only the measures whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Where `e2e/setup.sh peers` has put the servers that it builds.
    #[arg(long, default_value = ".")]
    cache: PathBuf,
    /// Be the peer that collects whole bodies, on the engine behind this socket.
    #[arg(long, requires = "listen", hide = true)]
    whole_body: Option<PathBuf>,
    #[arg(long, hide = true)]
    listen: Option<std::net::SocketAddr>,
    /// Where `bench.md`, `bench.json` and `bench.svg` go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Fail when a ratio or a figure misses its aim.
    #[arg(long)]
    check: bool,
}

/// What the program may fail with: a sentence, and the cause where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

fn main() -> std::process::ExitCode {
    match run(&Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("bench: {error}"));
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let (Some(engine), Some(listen)) = (&args.whole_body, args.listen) {
        return whole::serve(listen, engine);
    }
    if args.clients == 0 || args.rounds == 0 || !(args.seconds > 0.0 && args.seconds <= 600.0) {
        return Err(Error::Wrong("--clients, --rounds and --seconds must be positive".to_owned()));
    }
    let plan = Plan {
        sidecar: args.sidecar.clone(),
        engine: Some(args.engine.clone()).filter(|engine| !engine.is_empty()),
        cache: args.cache.clone(),
        clients: args.clients,
        rounds: args.rounds,
        length: Duration::from_secs_f64(args.seconds),
        only: args.only.clone(),
    };
    let machine = machine::describe();
    let outcome = measure::run(&plan)?;
    let mut rows = goal::run(&plan)?;
    if args.memory_rounds > 0 {
        rows.extend(memory::run(&plan, args.memory_rounds)?);
    }
    let table = report::markdown(&machine, &plan, &outcome, &rows);
    report::say(&table);
    let figures = format!("{:#}\n", report::json(&machine, &plan, &outcome, &rows));
    let files = [("bench.md", table), ("bench.json", figures), ("bench.svg", chart::svg(&outcome))];
    report::write(&args.out, &files)?;
    let missed = report::missed(&outcome, &rows);
    if args.check && !missed.is_empty() {
        return Err(Error::Wrong(format!("below the aim: {}", missed.join(", "))));
    }
    Ok(())
}
