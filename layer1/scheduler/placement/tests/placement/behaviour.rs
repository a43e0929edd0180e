//! One small world per rule.

use std::collections::BTreeMap;
use std::time::Duration;

use placement::{
    HostState, JobState, Offer, Process, Refusal, Retry, StopReason, Unplaceable, Volume,
    VolumeNeed, VolumeState, choose,
};

use crate::world::*;

#[test]
fn jobs_spread_evenly_over_the_hosts_with_the_tags() {
    let mut world = World::with_hosts(&["a", "b"]);
    for name in ["s1", "s2", "s3"] {
        world.snapshot.hosts.insert(host_id(name), host(10_000, &[("disk", "ssd")]));
    }
    let ssd = [("disk".to_owned(), "ssd".to_owned())].into();
    world.want(&key(1, 1), "web", Process { tags: ssd, ..process(6) });
    let plan = world.plan();
    world.apply(&plan, JobState::Running);
    let counts: Vec<usize> = world.counts("web").into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [0, 0, 2, 2, 2]);
    assert!(world.plan().steps.is_empty());
}

#[test]
fn what_cannot_be_placed_says_why() {
    let mut world = World::default();
    world.want(&key(1, 1), "web", process(2));
    assert_eq!(tell(&world.plan()), ["2 web unplaced: no host takes jobs"]);
    world.snapshot.hosts.insert(host_id("a"), host(150, &[]));
    world.want(
        &key(1, 1),
        "web",
        Process { tags: [("disk".into(), "ssd".into())].into(), ..process(2) },
    );
    assert_eq!(tell(&world.plan()), ["2 web unplaced: no host has tag disk=ssd"]);
    world.want(&key(1, 1), "web", process(2));
    assert_eq!(
        tell(&world.plan()),
        [
            "start web on a: fewer than wanted",
            "1 web unplaced: no host has room for 100MB of memory and 100m cpu: a has the most left, 50MB and 50m",
        ]
    );
}

#[test]
fn the_newest_and_least_far_are_stopped_first() {
    let mut world = World::with_hosts(&["a"]);
    world.want(&key(1, 1), "web", process(1));
    let oldest = world.job(&key(1, 1), "web", "a", JobState::Running);
    let newest = world.job(&key(1, 1), "web", "a", JobState::Running);
    let starting = world.job(&key(1, 1), "web", "a", JobState::Starting);
    let stops: Vec<_> = world.plan().stops().map(|stop| stop.job.clone()).collect();
    assert_eq!(stops, [starting.id, newest.id]);
    assert!(!stops.contains(&oldest.id));
}

#[test]
fn jobs_of_unknown_formations_are_left_alone_and_unlisted_types_are_stopped() {
    let mut world = World::with_hosts(&["a"]);
    world.job(&key(9, 9), "web", "a", JobState::Running);
    assert_eq!(tell(&world.plan()), [] as [&str; 0]);
    world.want(&key(9, 9), "other", process(0));
    assert_eq!(tell(&world.plan()), ["stop a: more than wanted"]);
}

#[test]
fn an_ordered_job_counts_before_its_host_confirms_it() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "web", process(3));
    for state in [JobState::Intended, JobState::Resurrecting, JobState::Starting] {
        world.job(&key(1, 1), "web", "a", state);
    }
    assert!(world.plan().steps.is_empty());
    world.job(&key(1, 1), "web", "a", JobState::Stopping);
    assert!(world.plan().steps.is_empty(), "a stopping job neither counts nor is stopped again");
}

#[test]
fn nothing_takes_the_place_of_a_job_that_still_stops() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "web", process(2));
    world.job(&key(1, 1), "web", "b", JobState::Running);
    world.job(&key(1, 1), "web", "a", JobState::Stopping);
    let waits = ["1 web unplaced: the job it takes the place of still stops"];
    assert_eq!(tell(&world.plan()), waits);
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state = HostState::Silent { since: at(1) };
    world.now = at(60);
    assert_eq!(tell(&world.plan()), waits, "nobody knows whether it ended");
    world.now = at(61);
    assert_eq!(tell(&world.plan()), ["start web on b: fewer than wanted"], "its host is lost");
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state = HostState::Serving;
    world.snapshot.jobs.pop();
    assert_eq!(tell(&world.plan()), ["start web on a: fewer than wanted"], "it ended");
}

#[test]
fn a_job_that_still_stops_keeps_an_omni_type_off_its_own_host_only() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "agent", Process { omni: true, ..process(1) });
    world.job(&key(1, 1), "agent", "a", JobState::Stopping);
    assert_eq!(
        tell(&world.plan()),
        [
            "start agent on b: fewer than wanted",
            "1 agent unplaced: the job it takes the place of still stops"
        ]
    );
}

#[test]
fn a_silent_host_is_given_its_time_before_its_jobs_are_replaced() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "web", process(1));
    let job = world.job(&key(1, 1), "web", "a", JobState::Running);
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state =
        HostState::Silent { since: at(100) };
    world.now = at(159);
    assert!(world.plan().steps.is_empty());
    world.now = at(160);
    let plan = world.plan();
    assert_eq!(tell(&plan), ["start web on b: fewer than wanted"]);
    assert_eq!(plan.lost, std::slice::from_ref(&job.id));
    world.apply(&plan, JobState::Running);
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state = HostState::Serving;
    assert_eq!(
        tell(&world.plan()),
        ["stop b: more than wanted"],
        "it came back: the newer one goes"
    );
}

#[test]
fn draining_starts_elsewhere_before_it_stops() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "web", process(2));
    world.job(&key(1, 1), "web", "a", JobState::Running);
    world.job(&key(1, 1), "web", "b", JobState::Running);
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state = HostState::Draining;
    let plan = world.plan();
    assert_eq!(tell(&plan), ["start web on b: fewer than wanted"]);
    world.apply(&plan, JobState::Starting);
    assert!(world.plan().steps.is_empty(), "the replacement does not run yet");
    world.snapshot.jobs.last_mut().unwrap().state = JobState::Running;
    let plan = world.plan();
    assert_eq!(plan.stops().map(|stop| stop.reason).collect::<Vec<_>>(), [StopReason::Draining]);
    world.apply(&plan, JobState::Running);
    assert!(world.plan().steps.is_empty());
}

#[test]
fn omni_types_run_once_on_every_host_with_the_tags() {
    let mut world = World::with_hosts(&["a", "b", "c"]);
    world.want(&key(1, 1), "agent", Process { omni: true, ..process(1) });
    world.job(&key(1, 1), "agent", "a", JobState::Running);
    world.job(&key(1, 1), "agent", "a", JobState::Running);
    assert_eq!(
        tell(&world.plan()),
        [
            "stop a: more than wanted",
            "start agent on b: fewer than wanted",
            "start agent on c: fewer than wanted"
        ]
    );
    let plan = world.plan();
    world.apply(&plan, JobState::Running);
    world.snapshot.hosts.get_mut(&host_id("c")).unwrap().state = HostState::Draining;
    assert!(world.plan().steps.is_empty(), "what runs on a draining host goes with it");
}

#[test]
fn data_pins_a_job_to_its_volume() {
    let mut world = World::with_hosts(&["a", "b"]);
    let data = VolumeNeed { path: "/data".into(), delete_on_stop: false };
    world.want(&key(1, 1), "db", Process { volumes: vec![data], ..process(2) });
    let volume = Volume {
        host: host_id("b"),
        formation: key(1, 1),
        process: "db".into(),
        path: "/data".into(),
        state: VolumeState::Free,
    };
    let id = uuid(7).parse::<kit_ids::VolumeId>().unwrap();
    world.snapshot.volumes.insert(id.clone(), volume);
    let plan = world.plan();
    let uses: Vec<_> = plan
        .starts()
        .map(|start| (start.host.as_str(), start.volumes[0].existing.clone()))
        .collect();
    assert_eq!(uses[0], ("b", Some(id.clone())));
    assert_eq!(uses[1].1, None, "the second job gets a volume of its own");

    world.snapshot.hosts.get_mut(&host_id("b")).unwrap().state = HostState::Silent { since: at(0) };
    let reason = format!("1 db unplaced: its data is in volume {id} on b, which does not answer");
    assert_eq!(tell(&world.plan()), ["start db on a: fewer than wanted".to_owned(), reason]);
    world.now = at(1000);
    assert!(tell(&world.plan())[1].ends_with("which is lost"));
    world.snapshot.volumes.get_mut(&id).unwrap().state = VolumeState::Decommissioned;
    assert_eq!(world.plan().starts().count(), 2, "an operator gave the data up");
}

#[test]
fn databases_begin_anew_when_their_host_is_lost() {
    let mut world = World::with_hosts(&["a", "b"]);
    let data = VolumeNeed { path: "/data".into(), delete_on_stop: false };
    world.want(&key(1, 1), "db", Process { volumes: vec![data], resurrect: true, ..process(1) });
    let volume = Volume {
        host: host_id("b"),
        formation: key(1, 1),
        process: "db".into(),
        path: "/data".into(),
        state: VolumeState::Free,
    };
    world.snapshot.volumes.insert(uuid(7).parse().unwrap(), volume);
    world.snapshot.hosts.get_mut(&host_id("b")).unwrap().state = HostState::Silent { since: at(0) };
    assert_eq!(world.plan().starts().count(), 0);
    world.now = at(60);
    let plan = world.plan();
    assert_eq!(plan.starts().map(|start| start.host.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_keeps_ending_waits() {
    let mut world = World::with_hosts(&["a"]);
    world.want(&key(1, 1), "web", process(2));
    world.snapshot.retries.push(Retry {
        formation: key(1, 1),
        process: "web".into(),
        host: host_id("a"),
        restarts: 6,
        not_before: at(10),
    });
    let plan = world.plan();
    assert_eq!(
        tell(&plan),
        [
            "start web on a: fewer than wanted",
            "1 web unplaced: it ended 6 times in a row and waits for its next try",
        ]
    );
    assert_eq!(plan.next_due(), Some(at(10)));
    world.now = at(10);
    assert_eq!(world.plan().starts().map(|start| start.restarts).collect::<Vec<_>>(), [6, 0]);
}

#[test]
fn a_refusal_sends_the_job_elsewhere_for_a_while() {
    let mut world = World::with_hosts(&["a", "b"]);
    world.want(&key(1, 1), "web", process(1));
    let refuse = |host: &str| Refusal {
        host: host_id(host),
        formation: key(1, 1),
        process: "web".into(),
        why: "memory: 100MB requested, 3MB available".into(),
        until: at(5),
    };
    world.snapshot.refusals.push(refuse("a"));
    assert_eq!(tell(&world.plan()), ["start web on b: fewer than wanted"]);
    world.snapshot.refusals.push(refuse("b"));
    assert_eq!(
        tell(&world.plan()),
        ["1 web unplaced: a refused: memory: 100MB requested, 3MB available"]
    );
    assert_eq!(world.plan().next_due(), Some(at(5)));
    world.now = at(5);
    assert_eq!(world.plan().starts().count(), 1);
}

#[test]
fn the_last_running_formation_of_a_critical_app_stays() {
    let mut world = World::with_hosts(&["a"]);
    world.want(&key(1, 1), "web", process(0));
    world.snapshot.formations.get_mut(&key(1, 1)).unwrap().critical = true;
    world.job(&key(1, 1), "web", "a", JobState::Running);
    assert_eq!(
        tell(&world.plan()),
        ["web: refusing to scale down critical app: no other formation of it has running jobs"]
    );
    world.want(&key(1, 2), "web", process(1));
    world.job(&key(1, 2), "web", "a", JobState::Running);
    assert_eq!(tell(&world.plan()), ["stop a: more than wanted"]);
}

#[test]
fn the_platform_gets_its_room_first() {
    let mut world = World::default();
    world.snapshot.hosts.insert(host_id("a"), host(100, &[]));
    world.want(&key(1, 1), "web", process(1));
    world.want(&key(2, 2), "controller", process(1));
    world.snapshot.formations.get_mut(&key(2, 2)).unwrap().system = true;
    assert_eq!(
        world.plan().starts().map(|start| start.process.to_string()).collect::<Vec<_>>(),
        ["controller"]
    );
    world.now = world.now + Duration::from_secs(1);
}

#[test]
fn the_loss_of_a_silent_host_is_due_to_the_second() {
    let mut world = World::with_hosts(&["a", "b"]);
    assert_eq!(world.plan().next_due(), None);
    world.snapshot.hosts.get_mut(&host_id("a")).unwrap().state = HostState::Silent { since: at(7) };
    world.now = at(20);
    assert_eq!(world.plan().next_due(), Some(at(67)));
    world.now = at(67);
    assert_eq!(world.plan().next_due(), None, "it is lost: nothing is due any more");
}

#[test]
fn a_refusal_of_one_type_keeps_no_other_type_away() {
    let mut world = World::with_hosts(&["a"]);
    world.want(&key(1, 1), "web", process(1));
    world.want(&key(1, 1), "worker", process(1));
    world.snapshot.refusals.push(Refusal {
        host: host_id("a"),
        formation: key(1, 1),
        process: "web".into(),
        why: "volumes in use: v".into(),
        until: at(5),
    });
    assert_eq!(
        tell(&world.plan()),
        ["start worker on a: fewer than wanted", "1 web unplaced: a refused: volumes in use: v"]
    );
}

#[test]
fn a_single_job_goes_to_the_least_loaded_host_that_fits() {
    let offer =
        |memory, used, tags: &[(&str, &str)]| Offer { host: host(memory, tags), used: mib(used) };
    let mut offers: BTreeMap<_, _> = [
        (host_id("busy"), offer(1000, 800, &[])),
        (host_id("idle"), offer(1000, 100, &[])),
        (host_id("small"), offer(50, 0, &[("disk", "ssd")])),
    ]
    .into();
    let wanted = |n: u64| Process { reservation: mib(n), ..Process::default() };
    assert_eq!(choose(&offers, &wanted(100)), Ok(host_id("idle")));
    offers.remove(&host_id("idle"));
    assert_eq!(
        choose(&offers, &wanted(100)),
        Ok(host_id("busy")),
        "the one that refused is left out"
    );
    let why = choose(&offers, &wanted(300)).unwrap_err().to_string();
    assert_eq!(
        why,
        "no host has room for 300MB of memory and 300m cpu: busy has the most left, 200MB and 200m"
    );
    let ssd = [("disk".to_owned(), "ssd".to_owned())].into();
    assert_eq!(choose(&offers, &Process { tags: ssd, ..wanted(10) }), Ok(host_id("small")));
    for offer in offers.values_mut() {
        offer.host.state = HostState::Draining;
    }
    assert_eq!(choose(&offers, &wanted(1)), Err(Unplaceable::NoHosts));
}

#[test]
fn jobs_that_reserve_nothing_spread_too() {
    let mut world = World::with_hosts(&["a", "b", "c"]);
    for app in 0..9 {
        world.want(&key(app, app), "web", Process { reservation: mib(0), ..process(1) });
    }
    let plan = world.plan();
    world.apply(&plan, JobState::Running);
    let counts: Vec<usize> = world.counts("web").into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [3, 3, 3]);
}
