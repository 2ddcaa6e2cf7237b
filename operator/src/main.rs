//! Entry of the operator's binary: parse, then run or print the CRDs. All else is in the library.

use std::io::Write;
use std::process::ExitCode;

use blobstore_operator::config::{Cli, Command, Config};
use blobstore_operator::error::chain;
use blobstore_operator::{run, telemetry};
use clap::Parser;

mod allocator;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(config) => operate(*config),
        Command::Crds => crds(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be up yet.
            let _ = writeln!(std::io::stderr(), "blobstore-operator: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn operate(config: Config) -> Result<(), Failed> {
    allocator::configure();
    let filter = telemetry::start(&config.log_filter, config.log_format)?;
    // Two threads: passes wait for others nearly all of the time, and each thread has its own arena.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run::run(config, filter))?;
    // Requests that hang must not keep a leader alive that has lost its Lease.
    runtime.shutdown_background();
    Ok(())
}

fn crds() -> Result<(), Failed> {
    let text = blobstore_operator_api::blob_store_crd_yaml()?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
