//! The scheduler against a simulated cluster: requests get lost, answers get lost, jobs crash, and the
//! scheduler dies between any two of its calls. All randomness follows from a seed, the names of new
//! jobs too; a failure prints it, and `SEED=159 cargo test -p scheduler whatever` replays it.

mod contention;
mod handle;
mod hosts;
mod world;

use controller_api::{JobState, ScaleRequest};

use crate::records;
use handle::Simulated;

/// How many runs of everything that can go wrong.
const SEEDS: u64 = 300;

#[tokio::test]
async fn three_are_started_and_the_request_is_fulfilled() {
    let cluster = Simulated::new(&["a", "b", "c"], 3, 1);
    cluster.world().request = Some(ScaleRequest::default());
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 4).await;
    let world = cluster.world();
    assert!(world.hosts.values().all(|host| host.jobs.len() == 1), "one on each host");
    assert!(
        world
            .recorded
            .values()
            .all(|job| job.state == Some(JobState::Up) && records::id_of(job).is_some())
    );
    assert_eq!(world.request, None);
}

#[tokio::test]
async fn whatever_is_killed_there_are_three_again_and_never_four() {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds =
        std::env::var("SEEDS").map_or(SEEDS, |count| count.parse().expect("SEEDS is a number"));
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        never_more_than_wanted(seed).await;
    }
}

/// Seeds with which there were more than three before a stopping job kept its place: 22 and 159 when
/// jobs had names of chance, which no seed replays, the others with names from the seed.
#[tokio::test]
async fn seeds_that_failed_once_do_not_fail_again() {
    for seed in [1, 22, 25, 159, 204] {
        never_more_than_wanted(seed).await;
    }
}

/// Jobs crash and stop slowly, calls get lost, fewer are wanted and then more again, and the scheduler is
/// killed in the middle of rounds and replaced.
///
/// Promised, at every moment and not only in the end: never more run than were ever wanted. A job that
/// was recorded may run, and one that was told to stop may still run; both keep their place until their
/// host says that they ended. Not promised, and not tried here: while two schedulers act at once, when
/// a host was lost and lives on with its jobs, and while a host drains or lost a tag, where the
/// replacement runs before the job is stopped. There a later round, once all hosts answer, stops what is
/// too many.
async fn never_more_than_wanted(seed: u64) {
    let cluster = Simulated::new(&["a", "b", "c"], 3, seed);
    {
        let mut world = cluster.world();
        (world.faults, world.stops_slowly, world.fickle) =
            (seed % 15, seed % 2 == 1, seed % 3 == 1);
    }
    for _ in 0..6 {
        let life = {
            let mut world = cluster.world();
            world.crash_one();
            u32::try_from(world.draw() % 40).unwrap_or_default()
        };
        cluster.world().life = Some(life);
        let mut doomed = cluster.scheduler();
        cluster.run(&mut doomed, 5).await;
        cluster.world().life = None;
        let mut next = cluster.scheduler();
        cluster.run(&mut next, 3).await;
    }
    {
        let mut world = cluster.world();
        (world.faults, world.fickle, world.wanted) = (0, false, 3);
        assert!(world.most_alive <= 3, "seed={seed}: {} at a time", world.most_alive);
    }
    let mut last = cluster.scheduler();
    // Long enough for the longest pause of a job that kept ending.
    cluster.run(&mut last, 60).await;
    let world = cluster.world();
    assert_eq!(world.alive(), 3, "seed={seed}");
    assert!(world.most_alive <= 3, "seed={seed}");
    let up =
        world.recorded.values().filter(|job| job.state.is_some_and(JobState::is_active)).count();
    assert_eq!(up, 3, "seed={seed}: the controller knows what runs");
}

#[tokio::test]
async fn scaled_to_zero_everything_stops() {
    let cluster = Simulated::new(&["a", "b"], 3, 9);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    {
        let mut world = cluster.world();
        (world.wanted, world.request) = (0, Some(ScaleRequest::default()));
    }
    // A scheduler that was started since, and never saw the formation active.
    let mut other = cluster.scheduler();
    cluster.run(&mut other, 4).await;
    let world = cluster.world();
    assert_eq!((world.alive(), &world.request), (0, &None));
    assert!(world.recorded.values().all(|job| job.state == Some(JobState::Down)));
}
