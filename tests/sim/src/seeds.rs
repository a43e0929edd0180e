//! Which seeds are tried, and what is printed of one that fails.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::Trace;

/// Runs a model: with `SEED=n` that seed alone, with `SIM_MINUTES=m` random seeds for so long, else
/// the `fixed` ones. Panics with the seed of the first run that fails.
#[expect(clippy::print_stderr, reason = "how much was explored")]
pub fn explore(model: &str, fixed: Range<u64>, run: impl Fn(u64, &Trace)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>());
    if let Some(seed) = number("SEED") {
        return one(model, seed.expect("SEED is a number"), &run);
    }
    let Some(minutes) = number("SIM_MINUTES") else {
        return fixed.for_each(|seed| one(model, seed, &run));
    };
    let until =
        Instant::now() + Duration::from_secs(60 * minutes.expect("SIM_MINUTES is a number"));
    // A hasher's keys are drawn by the operating system.
    let first = RandomState::new().hash_one(model) >> 16;
    let mut seed = first;
    while Instant::now() < until {
        one(model, seed, &run);
        seed += 1;
    }
    eprintln!("{model}: {} seeds from SEED={first} on", seed - first);
}

fn one(model: &str, seed: u64, run: &impl Fn(u64, &Trace)) {
    let trace = Trace::from_env();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, &trace))) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
        panic!(
            "{model} fails with SEED={seed}: {text}\n\
             again with: SEED={seed} TRACE=1 cargo test --workspace --test sim {model} -- --nocapture"
        );
    }
}
