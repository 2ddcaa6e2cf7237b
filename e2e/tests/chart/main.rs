//! The chart, without a cluster: it lints, renders as its goldens say, carries the CRDs unchanged, and its alerts and
//! dashboard are sound, tested with promtool and made of metrics that exist. Needs Helm (`make setup`) and promtool.
//! `UPDATE_GOLDENS=1` writes the goldens anew.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod render;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tools;
