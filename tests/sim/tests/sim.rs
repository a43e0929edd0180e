//! The fixed seeds of every model; see the README for others.

use sim::{Trace, explore};

#[test]
fn registry() {
    explore("registry", 0..150, sim::registry::run);
}

#[test]
fn overlay() {
    explore("overlay", 0..200, sim::overlay::run);
}

#[test]
fn fleet() {
    explore("fleet", 0..80, sim::fleet::run);
}

#[test]
fn one_seed_gives_one_history() {
    for run in [sim::registry::run, sim::overlay::run, sim::fleet::run] {
        let history = || {
            let trace = Trace::kept();
            run(7, &trace);
            trace.lines()
        };
        let first = history();
        assert!(first.len() > 50, "something happened");
        assert!(first == history(), "the same seed, another history");
    }
}
