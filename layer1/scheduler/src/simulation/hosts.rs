//! Several hosts: those that refuse, drain, are cut off or lose their power, schedulers that follow one
//! another, and what people are told meanwhile.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;

use controller_api::JobState;

use super::SEEDS;
use super::handle::Simulated;
use super::world::World;
use crate::round::Scheduler;

/// A host that stays silent for so long is lost; the rounds of these tests are seconds.
const LOST_AFTER: u32 = 30;
/// Between a host's loss and its jobs' new start elsewhere.
const ELSEWHERE_WITHIN: u32 = 15;

fn alive(world: &World) -> Vec<usize> {
    world.hosts.values().map(super::world::Machine::alive).collect()
}

fn ssd() -> BTreeMap<String, String> {
    [("disk".to_owned(), "ssd".to_owned())].into()
}

fn active(world: &World) -> usize {
    world.recorded.values().filter(|job| job.state.is_some_and(JobState::is_active)).count()
}

#[tokio::test]
async fn a_host_that_refuses_is_not_insisted_on() {
    let cluster = Simulated::new(&["a", "b"], 4, 7);
    cluster.world().host("a").refuses = Some("the disk is full".to_owned());
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 8).await;
    let world = cluster.world();
    assert_eq!(alive(&world), [0, 4]);
    assert_eq!(world.recorded.len(), 4, "a job that was refused found its host under its own name");
}

#[tokio::test]
async fn a_host_that_lost_its_disk_gets_new_volumes() {
    let cluster = Simulated::new(&["a", "b"], 2, 13);
    cluster.world().keeps = true;
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 8).await;
    assert_eq!(alive(&cluster.world()), [1, 1]);
    let volumes: Vec<_> = cluster.world().volumes.keys().cloned().collect();
    cluster.world().replace("a");
    cluster.run(&mut scheduler, 30).await;
    let world = cluster.world();
    assert_eq!(alive(&world), [1, 1]);
    assert_eq!(world.volumes.keys().cloned().collect::<Vec<_>>(), volumes, "none is left behind");
}

#[tokio::test]
async fn what_waits_tells_why_until_it_has_a_host() {
    let cluster = Simulated::new(&["a", "b"], 2, 11);
    cluster.world().tags = ssd();
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    assert_eq!(cluster.world().reasons(), ["no host has tag disk=ssd"; 2]);
    cluster.world().host("b").tags = ssd();
    cluster.world().host("b").refuses = Some("the disk is full".to_owned());
    cluster.run(&mut scheduler, 3).await;
    assert_eq!(cluster.world().reasons(), ["b refused: the disk is full"; 2]);
    cluster.world().host("b").refuses = None;
    cluster.run(&mut scheduler, 20).await;
    assert_eq!(cluster.world().reasons(), [] as [&str; 0]);
    assert_eq!(alive(&cluster.world()), [0, 2]);
    assert_eq!(cluster.world().recorded.len(), 2, "each kept its record");
    // One more than there are places, and then not.
    cluster.world().host("b").memory = kit_units::Bytes::mib(200);
    cluster.world().wanted = 3;
    cluster.run(&mut scheduler, 3).await;
    let reasons = cluster.world().reasons();
    assert!(reasons[0].starts_with("no host has room for 96MB"), "{reasons:?}");
    cluster.world().wanted = 2;
    cluster.run(&mut scheduler, 3).await;
    let world = cluster.world();
    assert_eq!((world.reasons().len(), active(&world)), (0, 2));
}

#[tokio::test]
async fn thousands_that_wait_make_few_records() {
    let cluster = Simulated::new(&["a"], 5000, 12);
    cluster.world().tags = ssd();
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    assert_eq!(cluster.world().reasons().len(), 20);
}

#[tokio::test]
async fn a_lost_hosts_jobs_are_started_elsewhere_and_given_up_when_it_returns() {
    let cluster = Simulated::new(&["a", "b", "c"], 3, 3);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    cluster.world().cut_off("a");
    cluster.run(&mut scheduler, LOST_AFTER).await;
    assert_eq!(cluster.world().alive(), 3, "a host that is silent for a moment keeps its jobs");
    cluster.run(&mut scheduler, ELSEWHERE_WITHIN).await;
    assert_eq!(cluster.world().alive(), 4, "what it had runs elsewhere");
    cluster.world().reconnect("a");
    cluster.run(&mut scheduler, 5).await;
    let world = cluster.world();
    assert_eq!((world.alive(), active(&world)), (3, 3), "the copy is not kept");
    assert_eq!(alive(&world), [1, 1, 1], "and it is the newer one that goes");
}

#[tokio::test]
async fn a_new_scheduler_gives_a_silent_host_its_whole_time() {
    let cluster = Simulated::new(&["a", "b"], 2, 5);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    cluster.world().cut_off("a");
    cluster.run(&mut scheduler, LOST_AFTER - 5).await;
    let mut next = cluster.scheduler();
    cluster.run(&mut next, LOST_AFTER).await;
    assert_eq!(alive(&cluster.world()), [1, 1], "the time of the one before counts for nothing");
    cluster.run(&mut next, ELSEWHERE_WITHIN).await;
    assert_eq!(alive(&cluster.world()), [1, 2]);
}

#[tokio::test]
async fn a_scheduler_that_slept_gives_a_silent_host_its_whole_time() {
    let cluster = Simulated::new(&["a", "b"], 2, 5);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    cluster.world().cut_off("a");
    cluster.run(&mut scheduler, 2).await;
    cluster.world().at += 1000;
    cluster.run(&mut scheduler, LOST_AFTER).await;
    assert_eq!(alive(&cluster.world()), [1, 1]);
    cluster.run(&mut scheduler, ELSEWHERE_WITHIN).await;
    assert_eq!(alive(&cluster.world()), [1, 2]);
}

#[tokio::test]
async fn hosts_that_discovery_lost_sight_of_are_asked_where_they_were() {
    let cluster = Simulated::new(&["a", "b"], 2, 6);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    for name in ["a", "b"] {
        cluster.world().host(name).listed = false;
    }
    // A new one, which sees no host at all and knows only what was kept.
    let mut next = cluster.scheduler();
    cluster.run(&mut next, 200).await;
    let world = cluster.world();
    assert_eq!(
        (alive(&world), world.recorded.len()),
        (vec![1, 1], 2),
        "nothing was started or stopped"
    );
}

#[tokio::test]
async fn without_a_quorum_nobody_is_lost() {
    let cluster = Simulated::new(&["a", "b", "c"], 3, 8);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    cluster.world().no_quorum = true;
    for name in ["b", "c"] {
        cluster.world().cut_off(name);
    }
    cluster.run(&mut scheduler, 200).await;
    assert_eq!(alive(&cluster.world()), [1, 1, 1], "perhaps it is us who are cut off");
    cluster.world().no_quorum = false;
    cluster.run(&mut scheduler, LOST_AFTER - 1).await;
    assert_eq!(alive(&cluster.world()), [1, 1, 1], "their time begins with the quorum");
    cluster.run(&mut scheduler, ELSEWHERE_WITHIN).await;
    assert_eq!(alive(&cluster.world()), [3, 1, 1]);
}

#[tokio::test]
async fn without_controller_or_discovery_nothing_is_done() {
    let cluster = Simulated::new(&["a", "b"], 2, 9);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    for (controller, discovery) in [(true, false), (false, true), (true, true)] {
        {
            let mut world = cluster.world();
            (world.controller_away, world.discovery_away) = (controller, discovery);
            world.host("b").silent = true;
        }
        cluster.run(&mut scheduler, 100).await;
        let mut new = cluster.scheduler();
        cluster.run(&mut new, 100).await;
        {
            let mut world = cluster.world();
            assert_eq!((alive(&world), world.recorded.len()), (vec![1, 1], 2));
            (world.controller_away, world.discovery_away) = (false, false);
        }
        // What came back all at once comes back in any order.
        cluster.run(&mut scheduler, LOST_AFTER - 5).await;
        cluster.world().host("b").silent = false;
        cluster.run(&mut scheduler, 3).await;
        let world = cluster.world();
        assert_eq!((alive(&world), world.recorded.len()), (vec![1, 1], 2), "nothing was restarted");
    }
}

#[tokio::test]
async fn a_draining_host_is_left_without_a_gap_and_forgotten_when_it_is_gone() {
    let cluster = Simulated::new(&["a", "b", "c"], 3, 10);
    let mut scheduler = cluster.scheduler();
    cluster.run(&mut scheduler, 3).await;
    cluster.world().host("a").draining = true;
    for _ in 0..10 {
        cluster.run(&mut scheduler, 1).await;
        let world = cluster.world();
        let running = world.hosts.values().flat_map(|host| host.jobs.values());
        let running = running.filter(|job| job.status == host_api::JobStatus::Running).count();
        assert!(running >= 3, "{:?}", alive(&world));
    }
    assert_eq!(alive(&cluster.world())[0], 0);
    cluster.world().cut_off("a");
    cluster.run(&mut scheduler, 3).await;
    let world = cluster.world();
    let kept: Vec<&str> = world.kept.hosts.keys().map(kit_ids::HostId::as_str).collect();
    assert_eq!((world.alive(), kept), (3, vec!["b", "c"]));
}

/// A leader is paused before any of its calls; meanwhile another leads, and does what was left to do. When
/// the first one wakes it goes on with its plan, and nothing of it may have an effect.
#[tokio::test]
async fn a_leader_that_wakes_starts_nothing_twice() {
    for calls in 0..60 {
        let cluster = Simulated::new(&["a", "b", "c"], 3, u64::from(calls));
        let mut old = cluster.scheduler();
        cluster.run(&mut old, 3).await;
        cluster.world().crash_one();
        let handle = old.cluster.clone();
        handle.pause_after(Some(calls));
        let woken = pause(&cluster, &mut old, || handle.is_paused(), async {
            let mut new = cluster.scheduler();
            cluster.run(&mut new, 4).await;
            assert_eq!(cluster.world().alive(), 3, "calls={calls}");
            handle.pause_after(None);
        });
        woken.await;
        let mut last = cluster.scheduler();
        cluster.run(&mut last, 3).await;
        let world = cluster.world();
        assert_eq!((world.alive(), active(&world)), (3, 3), "calls={calls}");
        assert!(world.most_alive <= 3, "calls={calls}: {} at a time", world.most_alive);
    }
}

/// One round of `scheduler`, in the middle of which, once it is paused, `meanwhile` happens.
async fn pause(
    cluster: &Simulated,
    scheduler: &mut Scheduler<Simulated>,
    is_paused: impl Fn() -> bool,
    meanwhile: impl Future<Output = ()>,
) {
    let mut round = pin!(cluster.round(scheduler));
    let until_paused = std::future::poll_fn(|_| match is_paused() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    tokio::select! {
        biased;
        () = &mut round => meanwhile.await,
        () = until_paused => {
            meanwhile.await;
            round.await;
        }
    }
}

#[tokio::test]
async fn two_that_both_believe_they_lead_start_nothing_twice() {
    for seed in 0..SEEDS / 10 {
        let cluster = Simulated::new(&["a", "b", "c"], 3, seed);
        cluster.world().faults = seed % 10;
        let mut both = [cluster.scheduler(), cluster.scheduler()];
        for _ in 0..20 {
            if cluster.world().draw().is_multiple_of(3) {
                cluster.world().crash_one();
            }
            let [one, other] = &mut both;
            let handle = one.cluster.clone();
            handle.pause_after(u32::try_from(cluster.world().draw() % 40).ok());
            let paused = pause(&cluster, one, || handle.is_paused(), async {
                cluster.run(other, 1).await;
                handle.pause_after(None);
            });
            paused.await;
            both.reverse();
        }
        cluster.world().faults = 0;
        cluster.run(&mut both[0], 60).await;
        let world = cluster.world();
        assert!(world.most_alive <= 3, "seed={seed}: {} at a time", world.most_alive);
        assert_eq!((world.alive(), active(&world)), (3, 3), "seed={seed}");
    }
}

/// Hosts are cut off, lose their power and come back, calls get lost, schedulers die; once all that has
/// ended there is exactly what is wanted, and the controller knows it.
#[tokio::test]
async fn whatever_became_of_the_hosts_in_the_end_there_is_what_is_wanted() {
    for seed in 0..SEEDS / 3 {
        let names = ["a", "b", "c", "d"];
        let cluster = Simulated::new(&names, 3, seed);
        cluster.world().faults = seed % 5;
        let mut scheduler = cluster.scheduler();
        for _ in 0..12 {
            let (host, what, rounds) = {
                let mut world = cluster.world();
                (world.draw() % 4, world.draw() % 6, world.draw() % 40)
            };
            let name = names[usize::try_from(host).unwrap_or_default()];
            {
                let mut world = cluster.world();
                match what {
                    0 => world.cut_off(name),
                    1 => world.cut_power(name),
                    2 => world.host(name).draining = true,
                    3 => world.host(name).draining = false,
                    4 => world.no_quorum = !world.no_quorum,
                    _ => world.reconnect(name),
                }
            }
            cluster.run(&mut scheduler, u32::try_from(rounds).unwrap_or_default()).await;
            if what == 5 {
                scheduler = cluster.scheduler();
            }
        }
        {
            let mut world = cluster.world();
            (world.faults, world.no_quorum) = (0, false);
            for name in names {
                world.reconnect(name);
                world.host(name).draining = false;
            }
        }
        cluster.run(&mut scheduler, 2 * LOST_AFTER + ELSEWHERE_WITHIN).await;
        let world = cluster.world();
        assert_eq!((world.alive(), active(&world)), (3, 3), "seed={seed}: {:?}", alive(&world));
    }
}
