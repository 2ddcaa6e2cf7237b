//! The result as Markdown tables for people and as JSON for programs: min, median and max, and ratios of medians.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::case::{Case, Unit, Which};
use crate::machine::Machine;
use crate::measure::{Outcome, Plan, Series, Side, figure};
use crate::memory::Row;
use crate::{Error, Result};

pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Progress and errors: not part of the result.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub(crate) fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
    files.iter().try_for_each(|(name, content)| {
        fs::write(folder.join(name), content).map_err(Error::io(format!("write {name}")))
    })
}

/// One comparison: ours with one peer.
pub(crate) struct Pair<'a> {
    pub(crate) case: &'static Case,
    pub(crate) ours: &'a Series,
    pub(crate) theirs: &'a Series,
    pub(crate) aim: f64,
}

impl Pair<'_> {
    pub(crate) fn ratio(&self) -> f64 {
        let of = |series: &Series| median(&series.rounds, |side| figure(self.case, side));
        let theirs = of(self.theirs);
        if theirs > 0.0 { of(self.ours) / theirs } else { 0.0 }
    }
}

pub(crate) fn pairs(outcome: &Outcome) -> Vec<Pair<'_>> {
    let of_case = |(case, series): &'_ (&'static Case, BTreeMap<Which, Series>)| -> Vec<(Which, f64)> {
        case.peers.iter().copied().filter(|(which, _)| series.contains_key(which)).collect()
    };
    let mut all = Vec::new();
    for entry in &outcome.cases {
        let (case, series) = entry;
        for (which, aim) in of_case(entry) {
            if let (Some(ours), Some(theirs)) = (series.get(&case.ours), series.get(&which)) {
                all.push(Pair { case, ours, theirs, aim });
            }
        }
    }
    all
}

/// Names of what misses its aim.
pub(crate) fn missed(outcome: &Outcome, rows: &[Row]) -> Vec<String> {
    let below = pairs(outcome).into_iter().filter(|pair| pair.ratio() < pair.aim);
    let below = below.map(|pair| format!("{} against {}", pair.case.name, pair.theirs.server));
    let rows = rows.iter().filter(|row| row.is_missed());
    below.chain(rows.map(|row| row.name.clone())).collect()
}

pub(crate) fn json(machine: &Machine, plan: &Plan, outcome: &Outcome, rows: &[Row]) -> Value {
    let cases: Vec<Value> = outcome
        .cases
        .iter()
        .map(|(case, series)| json!({ "name": case.name, "bytes": case.bytes, "series": series.values().collect::<Vec<_>>() }))
        .collect();
    let ratios: Vec<Value> = pairs(outcome)
        .iter()
        .map(|pair| {
            json!({ "name": pair.case.name, "peer": pair.theirs.server, "ratio": pair.ratio(), "aim": pair.aim })
        })
        .collect();
    json!({
        "machine": machine,
        "clients": plan.clients,
        "rounds": plan.rounds,
        "secondsPerMeasure": plan.length.as_secs_f64(),
        "cases": cases,
        "ratios": ratios,
        "figures": rows,
    })
}

pub(crate) fn markdown(machine: &Machine, plan: &Plan, outcome: &Outcome, rows: &[Row]) -> String {
    let mut text = format!(
        "{} ({} cores, {} GiB), Linux {}; {}; load before the run {}.\n\
         {} clients on the same machine, {} interleaved rounds of {} s, min / **median** / max.\n\n",
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.programs.join("; "),
        machine.load_before,
        plan.clients,
        plan.rounds,
        plan.length.as_secs_f64(),
    );
    let pairs = pairs(outcome);
    if !pairs.is_empty() {
        text.push_str("| measure | ours | peer | the peer's | ratio | aim | p99 ours / peer | p99 at half load | CPU s/GB | peak RSS |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        for pair in &pairs {
            let _ = writeln!(text, "{}", row(pair));
        }
    }
    if !rows.is_empty() {
        text.push_str("\n| figure | value | aim |\n|---|---|---|\n");
        for row in rows {
            let mark = if row.is_missed() { " (missed)" } else { "" };
            let sign = if row.least { "≥" } else { "≤" };
            let goal =
                if row.goal > 0.0 { format!("{sign} {} {}", row.goal, row.unit) } else { String::new() };
            let _ = writeln!(text, "| {} | **{:.3}** {}{mark} | {goal} |", row.name, row.value, row.unit);
        }
    }
    text
}

fn row(pair: &Pair<'_>) -> String {
    let ratio = pair.ratio();
    let mark = if ratio >= pair.aim { "" } else { " (missed)" };
    let aim = if pair.aim > 0.0 { format!("{:.2}", pair.aim) } else { "–".to_owned() };
    let p99 = |series: &Series| format!("{:.2}", median(&series.rounds, |side| side.p99_us as f64) / 1000.0);
    let half = |series: &Series| match series.half_load_p99_us {
        0 => "–".to_owned(),
        us => format!("{:.2}", us as f64 / 1000.0),
    };
    let cpu = |series: &Series| format!("{:.2}", median(&series.rounds, |side| side.cpu_seconds_per_gb));
    format!(
        "| {} | {} | {} | {} | **{ratio:.2}**{mark} | {aim} | {} / {} ms | {} / {} ms | {} / {} | {} / {} |",
        pair.case.name,
        spread(pair.case, pair.ours),
        pair.theirs.server,
        spread(pair.case, pair.theirs),
        p99(pair.ours),
        p99(pair.theirs),
        half(pair.ours),
        half(pair.theirs),
        cpu(pair.ours),
        cpu(pair.theirs),
        mib(pair.ours.peak_rss_bytes),
        mib(pair.theirs.peak_rss_bytes),
    )
}

fn spread(case: &Case, series: &Series) -> String {
    let (scale, unit) = match case.unit {
        Unit::Bytes => (1e6, "MB/s"),
        Unit::Requests => (1.0, "/s"),
    };
    let sorted = sorted(&series.rounds, |side| figure(case, side) / scale);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    format!("{:.0} / **{:.0}** / {:.0} {unit}", at(0), middle(&sorted), at(sorted.len().saturating_sub(1)))
}

pub(crate) fn median(sides: &[Side], figure: impl Fn(&Side) -> f64) -> f64 {
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
    if bytes == 0 { "–".to_owned() } else { format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;

    fn series(server: &'static str, bytes_per_second: &[f64]) -> Series {
        let rounds =
            bytes_per_second.iter().map(|&value| Side { bytes_per_second: value, ..Side::default() });
        Series { server, rounds: rounds.collect(), half_load_p99_us: 0, peak_rss_bytes: 0 }
    }

    fn check(ours: &[f64], theirs: &[f64], want: f64) {
        let case = CASES.iter().find(|case| case.unit == Unit::Bytes).expect("a case");
        let (peer, aim) = case.peers[0];
        let both = BTreeMap::from([(case.ours, series("ours", ours)), (peer, series("peer", theirs))]);
        let outcome = Outcome { cases: vec![(case, both)] };
        let pairs = pairs(&outcome);
        assert_eq!(pairs.len(), 1, "peers that did not run are no rows");
        assert!((pairs[0].ratio() - want).abs() < 1e-9, "{} is not {want}", pairs[0].ratio());
        assert_eq!(missed(&outcome, &[]).is_empty(), want >= aim);
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

    #[test]
    fn memory_above_its_goal_is_missed_and_speed_below_it() {
        let row = |value| Row::at_most("r", value, "MiB", 4.0);
        let none = Outcome { cases: Vec::new() };
        assert!(missed(&none, &[row(4.0)]).is_empty());
        assert_eq!(missed(&none, &[row(4.1)]), ["r"]);
        let fast = |value| Row::at_least("f", value, "/s", 4.0);
        assert_eq!(missed(&none, &[fast(4.0), fast(3.9), Row::figure("x", 9.0, "")]), ["f"]);
    }
}
