//! Runs a target: its corpus first, then mutations for as long as it is told.

use std::panic::catch_unwind;

use crate::{
    Target, escaped,
    mutate::{Random, mutated},
};

/// An input that a target cannot take, as a line for its corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub input: String,
}

/// Tries the seeds and then mutations of them while `more` says so; tells how many inputs were tried.
pub fn drive(target: &Target, seed: u64, mut more: impl FnMut(u64) -> bool) -> Result<u64, Finding> {
    let seeds = target.seeds();
    let mut tried = 0;
    for input in &seeds {
        once(target, input)?;
        tried += 1;
    }
    let mut random = Random::new(seed);
    while more(tried) {
        once(target, &mutated(&seeds, &mut random))?;
        tried += 1;
    }
    Ok(tried)
}

fn once(target: &Target, input: &[u8]) -> Result<(), Finding> {
    let run = target.run;
    catch_unwind(|| run(input)).map_err(|_| Finding { input: escaped(input) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    /// Few, for every run of the unit tests; `make soak` tries for as long as FUZZ_SECONDS says.
    const MUTATIONS: u64 = 1_500;

    #[test]
    fn every_target_takes_its_corpus_and_some_mutations() {
        let mut findings = Vec::new();
        for target in TARGETS {
            assert!(!target.seeds().is_empty(), "{} has no corpus", target.name);
            match drive(target, 1, |tried| tried < MUTATIONS) {
                Ok(tried) => assert_eq!(tried, MUTATIONS),
                Err(finding) => findings.push((target.name, finding.input)),
            }
        }
        assert_eq!(findings, [], "each is a line for the target's corpus");
    }

    #[test]
    fn a_target_that_fails_is_found_out() {
        let fragile = Target { run: |input| assert!(!input.contains(&0xff), "hit"), ..TARGETS[0] };
        let finding = drive(&fragile, 1, |tried| tried < 100_000).expect_err("found");
        assert!(finding.input.contains("\\xff"), "{finding:?}");
    }
}
