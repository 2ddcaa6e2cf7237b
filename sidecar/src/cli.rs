//! The command line: which part of the product this process is. Parses, starts logging and a runtime, reports how
//! it ended.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use blobstore_sidecar_api::ports;
use blobstore_sidecar_shard::launcher::{self, LauncherArgs};
use clap::{Args, Parser, Subcommand};

use crate::telemetry::{self, Format};
use crate::{allocator, dev, exec, prestop, serve};

/// A blob store's sidecar: HTTP in front of one engine, the shard protocol beside it, and memory hygiene.
#[derive(Debug, Parser)]
#[command(name = "blobstore-sidecar", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The sidecar of a pod: clients on 9000, admin on 9001, peers on 9002.
    Serve(ServeArgs),
    /// The launcher: PID 1 of the engine's container. Asks the sidecar before it starts the engine.
    Engine {
        /// The engine's program [default: the first of valkey-server, redis-server on PATH].
        #[arg(long)]
        engine: Option<PathBuf>,
        /// The pod's termination grace period [default: what the operator sets for this store].
        #[arg(long)]
        grace_seconds: Option<u64>,
    },
    /// The whole data plane on this machine, with an engine of its own. No Kubernetes.
    Dev(Box<DevArgs>),
    /// Copy this program into the folder that the pod's containers share.
    Install {
        #[arg(long, default_value = ports::BIN_DIR)]
        to: PathBuf,
    },
    /// The preStop hook: ask the sidecar of this pod to hand over, and wait until it has.
    Prestop {
        /// Give up after this long; keep it below the pod's grace period.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Admin port of the sidecar.
        #[arg(long, default_value_t = ports::ADMIN_PORT)]
        port: u16,
    },
    /// Become the engine, and end when the parent does. Used by `dev` for its child.
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// `serve`: where things are mounted, and on which address to listen.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[arg(long, default_value = ports::CONFIG_DIR)]
    pub config_dir: PathBuf,
    #[arg(long, default_value = ports::SECRET_DIR)]
    pub secret_dir: PathBuf,
    #[arg(long, default_value = "0.0.0.0")]
    pub bind: IpAddr,
}

/// `dev`: see each option's help; the defaults suit a laptop.
#[derive(Clone, Debug, Args)]
pub struct DevArgs {
    /// The engine's program [default: the first of valkey-server, redis-server on PATH].
    #[arg(long)]
    pub engine: Option<PathBuf>,
    /// Address for clients; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Address of health, metrics and reports; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    pub admin_listen: SocketAddr,
    /// Keep data here, in an append-only file [default: a temporary folder, removed at exit].
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Bytes for cached chunks; 0 switches the cache off. Takes suffixes: 512MiB, 1GiB.
    #[arg(long, value_parser = bytes, default_value = "128MiB")]
    pub cache_bytes: u64,
    /// The engine's memory limit; 0 is no limit. Takes suffixes.
    #[arg(long, value_parser = bytes, default_value = "0")]
    pub maxmemory: u64,
    /// Evict the coldest objects at the limit instead of refusing uploads.
    #[arg(long)]
    pub evict: bool,
    /// Compress blobs that were neither read nor written for this many seconds [default: none are].
    #[arg(long)]
    pub compress_after_seconds: Option<u64>,
    /// Name of the one user who may do everything.
    #[arg(long, requires = "secret_key", env = "BLOBSTORE_ACCESS_KEY")]
    pub access_key: Option<String>,
    /// That user's secret; it works as a bearer token too.
    #[arg(long, requires = "access_key", env = "BLOBSTORE_SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<String>,
    /// YAML list of users: name, token, accessKey, secretKey, rights.
    #[arg(long)]
    pub users: Option<PathBuf>,
    /// Certificate (PEM, a chain) of the client port, which then speaks TLS only. Read again when it changes.
    #[arg(long, requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// YAML list of read-through origins: as in a store's resource, in the form of `sidecar.json`.
    #[arg(long)]
    pub origins: Option<PathBuf>,
    /// Domain before which a bucket may stand in the host name: bucket.DOMAIN/key is /bucket/key. May be repeated.
    #[arg(long = "s3-domain", value_name = "DOMAIN")]
    pub s3_domains: Vec<String>,
    /// Everything is allowed without credentials.
    #[arg(long)]
    pub anonymous: bool,
    /// Bearer token of the protected admin paths; without it they are open to nobody.
    #[arg(long, env = "BLOBSTORE_ADMIN_TOKEN", hide_env_values = true, default_value = "")]
    pub admin_token: String,
    /// Connections at once.
    #[arg(long)]
    pub connections_max: Option<u32>,
    /// Payload bytes held by requests at once. Takes suffixes.
    #[arg(long, value_parser = bytes)]
    pub inflight_bytes_max: Option<u64>,
    /// Largest upload. Takes suffixes.
    #[arg(long, value_parser = bytes)]
    pub body_bytes_max: Option<u64>,
    /// A body that moves nothing for this long is cut.
    #[arg(long)]
    pub body_idle_seconds: Option<u64>,
    /// A request's header must arrive within this time.
    #[arg(long)]
    pub header_seconds: Option<u64>,
    /// After SIGTERM, open requests get this long.
    #[arg(long)]
    pub drain_seconds: Option<u64>,
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Install { to } => blobstore_sidecar_shard::install::run(&to).map_err(Box::from),
        Command::Engine { engine, grace_seconds } => return engine_main(engine, grace_seconds),
        Command::Serve(args) => {
            let log = telemetry::start(Format::Json);
            allocator::configure();
            block_on(Box::pin(serve::run(args, log)))
        }
        Command::Exec { parent, command } => Err(exec::exec(parent, command).into()),
        Command::Prestop { seconds, port } => block_on(prestop::prestop(port, seconds)),
        Command::Dev(args) => {
            let log = telemetry::start(Format::Text);
            allocator::configure();
            block_on(Box::pin(dev::run(*args, log)))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

/// The launcher reports its own end: its exit code is the engine's.
fn engine_main(engine: Option<PathBuf>, grace_seconds: Option<u64>) -> ExitCode {
    let _log = telemetry::start(Format::Json);
    let grace = Duration::from_secs(grace_seconds.unwrap_or_else(serve::grace_seconds));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(launcher::run(LauncherArgs::from_env(engine, grace))),
        Err(error) => fail(&error),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn block_on<E: Into<Failure>>(work: impl Future<Output = Result<(), E>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(allocator::join_arena)
        .build()?;
    runtime.block_on(work).map_err(Into::into)
}

/// The whole chain on one line: the last word of a process that cannot go on.
#[expect(clippy::print_stderr, reason = "the end of the process, with or without a logger")]
fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut line = format!("blobstore-sidecar: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// `1048576`, `512KiB`, `64MiB`, `2GiB`, and the same with KB, MB, GB in powers of ten.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("", 1),
    ];
    for (suffix, factor) in UNITS {
        if let Some(number) = text.strip_suffix(suffix)
            && let Ok(number) = number.trim().parse::<u64>()
        {
            return number.checked_mul(*factor).ok_or_else(|| format!("{text} does not fit in 64 bits"));
        }
    }
    Err(format!("{text:?} is not a number of bytes: write 1048576, 64MiB or 2GB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("2GB"), Ok(2_000_000_000));
        assert!(bytes("MiB").is_err());
        assert!(bytes("99999999999GiB").is_err());
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
