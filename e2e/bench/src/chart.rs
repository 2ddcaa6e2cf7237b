//! The before and after as a picture: for every comparison the peer's bar and ours below it, longer is faster.

use std::fmt::Write as _;

use crate::measure::{Outcome, figure};
use crate::report::{median, pairs};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 330.0;
const BAR: f64 = 11.0;
const STEP: f64 = 34.0;
const HEAD: f64 = 46.0;

/// An SVG of its own, readable on light and dark pages.
pub(crate) fn svg(outcome: &Outcome) -> String {
    let pairs = pairs(outcome);
    let height = HEAD + STEP * pairs.len() as f64 + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\" font-weight=\"bold\">BlobStore beside what it replaces</text>\n\
         <text x=\"10\" y=\"37\" fill=\"#57606a\">median of all rounds, longer is faster: the peer in grey, ours in blue; \
         the line is the aim</text>\n"
    );
    for (index, pair) in pairs.iter().enumerate() {
        let of = |rounds| median(rounds, |side| figure(pair.case, side));
        let (ours, theirs) = (of(&pair.ours.rounds), of(&pair.theirs.rounds));
        let top = HEAD + STEP * index as f64;
        let longest = ours.max(theirs).max(f64::MIN_POSITIVE);
        let length = |value: f64| (WIDTH - LABELS - 70.0) * value / longest;
        let label = format!("{} / {}", pair.case.name, pair.theirs.server);
        let _ = writeln!(out, "<text x=\"10\" y=\"{}\">{label}</text>", top + 16.0);
        for (line, value, colour) in [(0.0, theirs, "#afb8c1"), (1.0, ours, "#0969da")] {
            let _ = writeln!(
                out,
                "<rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
                top + 2.0 + line * (BAR + 1.0),
                length(value),
            );
        }
        let aim = LABELS + length((theirs * pair.aim).min(longest));
        if pair.aim > 0.0 {
            let (from, to) = (top + 1.0 + BAR, top + 4.0 + 2.0 * BAR);
            let _ = writeln!(
                out,
                "<line x1=\"{aim:.1}\" x2=\"{aim:.1}\" y1=\"{from}\" y2=\"{to}\" stroke=\"#cf222e\" stroke-width=\"2\"/>"
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" font-weight=\"bold\">×{:.2}</text>",
            LABELS + length(ours) + 6.0,
            top + 12.0 + BAR,
            pair.ratio(),
        );
    }
    out.push_str("</svg>\n");
    out
}
