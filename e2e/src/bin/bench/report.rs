//! The result as a Markdown table for people and as JSON for programs: min, median and max, and the ratio of the
//! medians.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::measure::{Measure, Outcome, Plan, Side};
use crate::{Error, Result};

pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Progress and errors: not part of the result.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub(crate) fn write(folder: &Path, table: &str, figures: &Value) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
    let file = |name: &str, content: String| {
        fs::write(folder.join(name), content).map_err(Error::io(format!("write {name}")))
    };
    file("bench.md", table.to_owned())?;
    file("bench.json", format!("{figures:#}\n"))
}

/// Names of the measures whose ratio is below the aim.
pub(crate) fn missed(outcome: &Outcome) -> Vec<String> {
    let below = |measure: &&Measure| ratio(measure) < measure.aim;
    outcome.measures.iter().filter(below).map(|measure| measure.name.clone()).collect()
}

pub(crate) fn json(machine: &Machine, plan: &Plan, outcome: &Outcome) -> Value {
    let ratios: serde_json::Map<String, Value> =
        outcome.measures.iter().map(|measure| (measure.name.clone(), json!(ratio(measure)))).collect();
    json!({
        "machine": machine,
        "clients": plan.clients,
        "rounds": plan.rounds,
        "secondsPerMeasure": plan.length.as_secs_f64(),
        "idleRssBytes": outcome.idle_rss_bytes,
        "measures": outcome.measures,
        "ratios": ratios,
    })
}

pub(crate) fn markdown(machine: &Machine, plan: &Plan, outcome: &Outcome) -> String {
    let mut text = format!(
        "{} ({} cores, {} GiB), Linux {}; {}; {}; load before the run {}.\n\
         {} clients on the same machine, {} interleaved rounds of {} s, min / **median** / max in MB/s.\n\n",
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        short(&machine.engine),
        machine.nginx,
        machine.load_before,
        plan.clients,
        plan.rounds,
        plan.length.as_secs_f64(),
    );
    text.push_str("| measure | ours | peer | the peer's | ratio | aim | p99 ours / peer | CPU s/GB ours / peer | peak RSS |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for measure in &outcome.measures {
        let _ = writeln!(text, "{}", row(measure));
    }
    let _ = writeln!(text, "\nIdle RSS of a sidecar: {}.", mib(outcome.idle_rss_bytes));
    text
}

fn row(measure: &Measure) -> String {
    let ratio = ratio(measure);
    let mark = if ratio >= measure.aim { "" } else { " (missed)" };
    let p99 = |sides: &[Side]| format!("{:.2} ms", median(sides, |side| side.p99_us as f64) / 1000.0);
    let cpu = |sides: &[Side]| format!("{:.2}", median(sides, |side| side.cpu_seconds_per_gb));
    format!(
        "| {} | {} | {} | {} | **{ratio:.2}**{mark} | {:.2} | {} / {} | {} / {} | {} |",
        measure.name,
        spread(&measure.ours),
        measure.peer,
        spread(&measure.theirs),
        measure.aim,
        p99(&measure.ours),
        p99(&measure.theirs),
        cpu(&measure.ours),
        cpu(&measure.theirs),
        mib(measure.peak_rss_bytes),
    )
}

fn ratio(measure: &Measure) -> f64 {
    let of = |sides: &[Side]| median(sides, |side| side.bytes_per_second);
    let theirs = of(&measure.theirs);
    if theirs > 0.0 { of(&measure.ours) / theirs } else { 0.0 }
}

fn spread(sides: &[Side]) -> String {
    let sorted = sorted(sides, |side| side.bytes_per_second / 1e6);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    format!("{:.0} / **{:.0}** / {:.0}", at(0), middle(&sorted), at(sorted.len().saturating_sub(1)))
}

fn median(sides: &[Side], figure: impl Fn(&Side) -> f64) -> f64 {
    middle(&sorted(sides, figure))
}

fn sorted(sides: &[Side], figure: impl Fn(&Side) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = sides.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Of an even number the mean of the two in the middle.
fn middle(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.saturating_sub(1)) + at(half)) / 2.0 }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The first words: a version line carries build hashes that nobody reads.
fn short(version: &str) -> String {
    version.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(bytes_per_second: &[f64]) -> Vec<Side> {
        bytes_per_second.iter().map(|&value| Side { bytes_per_second: value, ..Side::default() }).collect()
    }

    fn check(ours: &[f64], theirs: &[f64], want: f64) {
        let measure = Measure {
            name: "m".to_owned(),
            peer: "p",
            aim: 0.5,
            ours: sides(ours),
            theirs: sides(theirs),
            peak_rss_bytes: 0,
        };
        assert!((ratio(&measure) - want).abs() < 1e-9, "{} is not {want}", ratio(&measure));
        let outcome = Outcome { measures: vec![measure], idle_rss_bytes: 0 };
        assert_eq!(missed(&outcome).is_empty(), want >= 0.5);
    }

    #[test]
    fn ratio_is_that_of_the_medians() {
        check(&[9.0, 1.0, 2.0], &[4.0, 100.0, 3.0], 0.5);
    }

    #[test]
    fn even_rounds_take_the_mean_of_the_middle() {
        check(&[1.0, 3.0], &[10.0, 10.0], 0.2);
    }

    #[test]
    fn peer_that_did_nothing_is_no_win() {
        check(&[1.0], &[0.0], 0.0);
    }
}
