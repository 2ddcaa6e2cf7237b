//! What the harness tells the person in front of it: one line per step, with the seconds since the start.

use std::{
    io::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

static START: OnceLock<Instant> = OnceLock::new();

pub fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// To standard error: standard output belongs to the command's result.
pub fn say(line: &str) {
    let seconds = elapsed().as_secs_f64();
    // A closed terminal must not end a cluster that is half up.
    let _written = writeln!(std::io::stderr(), "[{seconds:6.1} s] {line}").is_ok();
}
