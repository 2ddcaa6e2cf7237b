//! Every fuzz target for FUZZ_SECONDS (10), one after the other; `make soak` runs it. Ends with 1 and the input at the
//! first failure. A first argument chooses the targets whose names contain it.

use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use blobstore_sidecar_fuzz::{TARGETS, drive::drive};

const SECONDS: u64 = 10;

#[expect(clippy::print_stdout, reason = "its report")]
fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let span = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = number("FUZZ_SEED").unwrap_or(since.as_secs());
    let chosen = std::env::args().nth(1).unwrap_or_default();
    for target in TARGETS.iter().filter(|target| target.name.contains(&chosen)) {
        let end = Instant::now() + span;
        match drive(target, seed, |_| Instant::now() < end) {
            Ok(tried) => println!("{}: {tried} inputs, seed {seed}", target.name),
            Err(finding) => {
                println!("{}: FAILED, seed {seed}, input:\n{}", target.name, finding.input);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
