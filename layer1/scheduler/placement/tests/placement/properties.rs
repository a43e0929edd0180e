//! What holds for every world.

use std::collections::BTreeMap;

use kit_ids::HostId;
use placement::*;
use proptest::prelude::*;

use crate::world::*;

/// A random world: hosts of several sizes, tags and states; types of several sizes, tags and kinds;
/// jobs of them, and of nobody, in every state.
fn worlds() -> impl Strategy<Value = World> {
    let hosts = proptest::collection::vec((100_u64..2000, 0..3_u8, 0..8_u8), 1..8);
    let types =
        proptest::collection::vec((0..6_u32, 10_u64..400, 0..3_u8, any::<bool>(), 0..4_u64), 1..8);
    let jobs = proptest::collection::vec((0..8_usize, 0..9_usize, 0..6_u8), 0..30);
    (hosts, types, jobs).prop_map(|(hosts, types, jobs)| {
        let mut world = World { now: at(1000), ..World::default() };
        for (n, (memory, zone, state)) in hosts.iter().enumerate() {
            let zone = zone.to_string();
            let mut host = host(*memory, &[("zone", zone.as_str())]);
            host.state = match state {
                0 => HostState::Draining,
                1 => HostState::Silent { since: at(999) },
                2 => HostState::Silent { since: at(1) },
                _ => HostState::Serving,
            };
            world.snapshot.hosts.insert(host_id(&format!("h{n}")), host);
        }
        for (n, (count, memory, zone, omni, app)) in types.iter().enumerate() {
            let tags = match zone {
                0 => [("zone".to_owned(), "1".to_owned())].into(),
                _ => BTreeMap::new(),
            };
            let omni = *omni && n % 3 == 0;
            let wanted = Process {
                count: *count,
                omni,
                tags,
                reservation: mib(*memory),
                ..Process::default()
            };
            world.want(&key(*app, *app), &format!("t{n}"), wanted);
        }
        for (host, kind, state) in &jobs {
            let state = match state {
                0 => JobState::Intended,
                1 => JobState::Resurrecting,
                2 => JobState::Starting,
                3 => JobState::Stopping,
                _ => JobState::Running,
            };
            let app = types.get(*kind).map_or(77, |(_, _, _, _, app)| *app);
            world.job(&key(app, app), &format!("t{kind}"), &format!("h{host}"), state);
        }
        world
    })
}

fn used(world: &World) -> BTreeMap<HostId, Reservation> {
    let mut used = BTreeMap::<HostId, Reservation>::new();
    for job in &world.snapshot.jobs {
        let sum = used.entry(job.host.clone()).or_default();
        sum.memory.0 += job.reservation.memory.0;
        sum.cpu.0 += job.reservation.cpu.0;
    }
    used
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_world_gets_the_same_plan(world in worlds()) {
        prop_assert_eq!(world.plan(), world.plan());
    }

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_start(mut world in worlds()) {
        let plan = world.plan();
        let unplaced: u32 = plan.unplaced.iter().map(|unplaced| unplaced.count).sum();
        world.apply(&plan, JobState::Running);
        // Stops that waited for a replacement come now; room they free may be used once more.
        for _ in 0..20 {
            let next = world.plan();
            prop_assert!(next.starts().count() <= unplaced as usize, "{:?} after {:?}", tell(&next), tell(&plan));
            world.apply(&next, JobState::Running);
        }
        prop_assert_eq!(world.plan().steps, vec![]);
    }

    #[test]
    fn no_start_goes_beyond_what_a_host_has_left(mut world in worlds()) {
        let (before, plan) = (used(&world), world.plan());
        let starts = Plan { steps: plan.starts().cloned().map(Step::Start).collect(), ..Plan::default() };
        world.apply(&starts, JobState::Starting);
        for (host, used) in used(&world) {
            if before.get(&host) == Some(&used) { continue }
            let capacity = world.snapshot.hosts[&host].capacity;
            prop_assert!(used.memory <= capacity.memory && used.cpu <= capacity.cpu, "{host}: {used:?}");
        }
    }

    #[test]
    fn starts_go_to_serving_hosts_with_the_tags(world in worlds()) {
        for start in world.plan().starts() {
            let host = &world.snapshot.hosts[&start.host];
            prop_assert_eq!(host.state, HostState::Serving);
            let process = &world.snapshot.formations[&start.formation].processes[&start.process];
            prop_assert!(process.tags.iter().all(|(key, value)| host.tags.get(key) == Some(value)));
        }
    }

    #[test]
    fn nothing_is_left_unplaced_while_a_host_could_take_it(mut world in worlds()) {
        let plan = world.plan();
        let starts = Plan { steps: plan.starts().cloned().map(Step::Start).collect(), ..Plan::default() };
        world.apply(&starts, JobState::Starting);
        let used = used(&world);
        for unplaced in &plan.unplaced {
            let process = &world.snapshot.formations[&unplaced.formation].processes[&unplaced.process];
            if process.omni || unplaced.reason == Unplaceable::StillStopping { continue }
            for (id, host) in &world.snapshot.hosts {
                let used = used.get(id).copied().unwrap_or_default();
                let tagged = process.tags.iter().all(|(key, value)| host.tags.get(key) == Some(value));
                let room = used.memory.0 + process.reservation.memory.0 <= host.capacity.memory.0
                    && used.cpu.0 + process.reservation.cpu.0 <= host.capacity.cpu.0;
                prop_assert!(!(host.state == HostState::Serving && tagged && room), "{} {unplaced:?}", id);
            }
        }
    }

    #[test]
    fn counts_are_reached_or_told_and_never_exceeded(world in worlds()) {
        let plan = world.plan();
        for (key, formation) in &world.snapshot.formations {
            for (name, process) in formation.processes.iter().filter(|(_, process)| !process.omni) {
                let of_type = |job: &&Job| job.formation.as_ref() == Some(key) && job.process == *name;
                let stays = |job: &&Job| job.state.counts()
                    && !plan.lost.contains(&job.id) && !plan.stops().any(|stop| stop.job == job.id);
                let leaving = |job: &&Job| {
                    world.snapshot.hosts.get(&job.host).is_some_and(|host| {
                        host.state == HostState::Draining
                            || process.tags.iter().any(|(key, value)| host.tags.get(key) != Some(value))
                    })
                };
                let kept: Vec<&Job> = world.snapshot.jobs.iter().filter(of_type).filter(stays).collect();
                let settled = kept.iter().filter(|job| !leaving(job)).count();
                let started = plan.starts().filter(|start| start.formation == *key && start.process == *name).count();
                let told: u32 = plan.unplaced.iter()
                    .filter(|it| it.formation == *key && it.process == *name).map(|it| it.count).sum();
                prop_assert_eq!(settled + started + told as usize, process.count as usize);
            }
        }
    }

    #[test]
    fn nothing_is_started_beside_as_many_as_wanted_that_may_run(world in worlds()) {
        let plan = world.plan();
        let started_of = |key: &FormationKey, name: &ProcessName, host: Option<&HostId>| {
            let of_type = |start: &&Start| start.formation == *key && start.process == *name;
            plan.starts().filter(of_type).filter(|start| host.is_none_or(|host| start.host == *host)).count()
        };
        for (key, formation) in &world.snapshot.formations {
            for (name, process) in &formation.processes {
                // What runs where it may not stay is replaced before it is stopped.
                let may_run = |job: &&Job| {
                    let stays = world.snapshot.hosts.get(&job.host).is_some_and(|host| {
                        host.state != HostState::Draining
                            && process.tags.iter().all(|(key, value)| host.tags.get(key) == Some(value))
                    });
                    job.formation.as_ref() == Some(key) && job.process == *name
                        && !plan.lost.contains(&job.id) && (stays || job.state == JobState::Stopping)
                };
                let jobs: Vec<&Job> = world.snapshot.jobs.iter().filter(may_run).collect();
                let places: Vec<Option<&HostId>> =
                    if process.omni { world.snapshot.hosts.keys().map(Some).collect() } else { vec![None] };
                for place in places {
                    let started = started_of(key, name, place);
                    let there = jobs.iter().filter(|job| place.is_none_or(|host| job.host == *host)).count();
                    prop_assert!(started == 0 || there + started <= process.count as usize, "{:?}", tell(&plan));
                }
            }
        }
    }

    #[test]
    fn with_enough_settled_jobs_nothing_moves(mut world in worlds()) {
        let plan = world.plan();
        world.apply(&plan, JobState::Running);
        while !world.plan().steps.is_empty() {
            let next = world.plan();
            world.apply(&next, JobState::Running);
        }
        // A new empty host attracts nothing that already runs.
        let omni: Vec<_> = world.snapshot.formations.values()
            .flat_map(|formation| &formation.processes).filter(|(_, process)| process.omni)
            .map(|(name, _)| name.clone()).collect();
        let unplaced = !world.plan().unplaced.is_empty();
        world.snapshot.hosts.insert(host_id("new"), host(100_000, &[("zone", "1")]));
        let next = world.plan();
        prop_assert_eq!(next.stops().count(), 0);
        if !unplaced {
            prop_assert!(next.starts().all(|start| omni.contains(&start.process)));
        }
    }

    /// Hosts that refuse for reasons of their own, whatever the planner thinks of their room: remembered
    /// refusals lead to the next host each time, and when every host was asked once at most for every
    /// type, each job runs where it was taken or says why it does not.
    #[test]
    fn refusals_lead_elsewhere_and_come_to_an_end(
        mut world in worlds(), refusing in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let refuses = |host: &HostId| {
            let number: usize = host.as_str()[1..].parse().expect("h and a number");
            refusing.get(number) == Some(&true)
        };
        let (mut asked, made_before) = (0, world.made);
        let types: usize = world.snapshot.formations.values().map(|it| it.processes.len()).sum();
        // One that gives way to another may be asked for in a later round.
        for _ in 0..=types * world.snapshot.hosts.len() {
            let plan = world.plan();
            let (refused, taken): (Vec<Step>, Vec<Step>) = plan.steps.iter().cloned()
                .partition(|step| matches!(step, Step::Start(start) if refuses(&start.host)));
            world.apply(&Plan { steps: taken, ..Plan::default() }, JobState::Starting);
            for step in refused {
                let Step::Start(start) = step else { unreachable!("only starts are refused") };
                let again = world.snapshot.refusals.iter().any(|refusal| refusal.host == start.host
                    && refusal.formation == start.formation && refusal.process == start.process);
                // Several jobs of one type may be sent in one round; not in the next one.
                if !again { asked += 1; }
                world.snapshot.refusals.push(Refusal {
                    host: start.host, formation: start.formation, process: start.process,
                    why: "the disk is full".to_owned(), until: at(2000),
                });
            }
        }
        prop_assert!(asked <= types * world.snapshot.hosts.len());
        let last = world.plan();
        prop_assert_eq!(last.starts().count(), 0, "{:?}", tell(&last));
        for job in &world.snapshot.jobs {
            let is_new = job.created.since_epoch().as_secs() > made_before;
            prop_assert!(!is_new || !refuses(&job.host));
        }
    }
}
