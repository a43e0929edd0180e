//! From what was seen to what is wrong. Pure: facts in, findings out, one function for each thing that
//! may be wrong, none of which asks, waits or reads a clock.
//!
//! A cause silences what follows from it where that is certain: without discoverd nobody is blamed for
//! not being registered.

mod discovery;
mod hosts;
mod jobs;
mod machines;
mod platform;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::Finding;

pub(crate) use self::discovery::{Quorum, quorum};

/// What is wrong, the worst first, and of one severity from the bottom (hosts) to the top (names).
pub(crate) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let rules: [fn(&Facts) -> Vec<Finding>; 5] = [
        hosts::findings,
        machines::findings,
        discovery::findings,
        platform::findings,
        jobs::findings,
    ];
    let mut findings: Vec<_> = rules.iter().flat_map(|rule| rule(facts)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}
