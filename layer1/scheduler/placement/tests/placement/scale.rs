//! A size the planner must cope with. No time is asserted here; `script/bench` measures the release
//! build against its budget.

use placement::JobState;

use crate::world::*;

/// Plans `apps` formations of `each` jobs onto `hosts` empty hosts.
fn fill(hosts: usize, apps: u64, each: u32) -> (World, usize) {
    let mut world = World::default();
    for n in 0..hosts {
        world.snapshot.hosts.insert(host_id(&format!("h{n}")), host(100 * 100, &[]));
    }
    for app in 0..apps {
        world.want(&key(app, app), "web", process(each));
    }
    let starts = world.plan();
    let count = starts.starts().count();
    world.apply(&starts, JobState::Running);
    (world, count)
}

#[test]
fn thousands_of_jobs_are_placed_evenly() {
    for (hosts, apps, each) in [(500, 100, 100_u32), (500, 10_000, 1), (500, 2, 5000)] {
        let (world, count) = fill(hosts, apps, each);
        assert_eq!(count, 10_000, "{apps} apps of {each}");
        let counts = world.counts("web");
        let (least, most) =
            (counts.iter().map(|(_, n)| n).min(), counts.iter().map(|(_, n)| n).max());
        assert!(
            most.unwrap() - least.unwrap() <= 1,
            "{apps} apps of {each}: {least:?} to {most:?}"
        );
        assert!(world.plan().steps.is_empty());
    }
}
