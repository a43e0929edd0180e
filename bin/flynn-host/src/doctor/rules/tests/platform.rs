//! Findings about the platform, its jobs and its names.

use super::*;

#[test]
fn jobs_that_do_not_stay() {
    let quick = |n: u64| JobFacts {
        id: format!("host1-{n}"),
        app: "shop".to_owned(),
        process: "web".to_owned(),
        state: JobState::Failed { ago: Duration::from_secs(n) },
        kept: true,
        ran_for: Duration::from_secs(1),
        error: Some("exit status 1".to_owned()),
        ..JobFacts::default()
    };
    let add = |facts: &mut Facts, jobs: Vec<JobFacts>| {
        // Each time another host: the scheduler looks for a better one.
        for (at, job) in jobs.into_iter().enumerate() {
            facts.hosts[at % 3].answer.as_mut().unwrap().jobs.push(job);
        }
    };
    check(
        3,
        |facts| add(facts, (1..=3).map(quick).collect()),
        "warning crash-loop flynn-host log host1-1",
    );
    check(3, |facts| add(facts, (1..=2).map(quick).collect()), "");
    let stopped = |n| JobFacts { stopped: true, ..quick(n) };
    check(3, |facts| add(facts, (1..=9).map(stopped).collect()), "");
    let long = |n| JobFacts { ran_for: Duration::from_secs(100), ..quick(n) };
    check(3, |facts| add(facts, (1..=9).map(long).collect()), "");
    let one_off = |n| JobFacts { kept: false, ..quick(n) };
    check(3, |facts| add(facts, (1..=9).map(one_off).collect()), "");
    let old = |n: u64| quick(n + 1000);
    check(3, |facts| add(facts, (1..=9).map(old).collect()), "");
}

#[test]
fn jobs_that_a_host_gave_up() {
    let gone = JobFacts {
        state: JobState::Failed { ago: Duration::from_secs(400) },
        resurrect: true,
        ..job("host2", "blobstore", "web")
    };
    let with = |jobs: Vec<JobFacts>| {
        move |facts: &mut Facts| facts.hosts[1].answer.as_mut().unwrap().jobs.extend(jobs)
    };
    check(3, with(vec![gone.clone()]), "warning host2 job-given-up flynn-host log host2-blobstore");
    let next = JobFacts { id: "host2-next".to_owned(), ..job("host2", "blobstore", "web") };
    check(3, with(vec![gone.clone(), next]), "");
    let ended = JobFacts {
        id: "host2-later".to_owned(),
        predecessor: Some(gone.id.clone()),
        stopped: true,
        ..gone.clone()
    };
    check(3, with(vec![gone.clone(), ended]), "");
    let young = JobFacts { state: JobState::Failed { ago: Duration::from_secs(20) }, ..gone };
    check(3, with(vec![young]), "");
}

#[test]
fn parts_of_the_platform_that_are_away() {
    check(
        3,
        |facts| facts.platform.database = Seen::Unwell("no server is registered".to_owned()),
        "critical database-away flynn-host log host1-postgres",
    );
    check(
        3,
        |facts| facts.platform.controller = Seen::Unwell("connection refused".to_owned()),
        "critical controller-away flynn-host log host1-controller",
    );
    check(
        3,
        |facts| {
            let services = facts.platform.services.as_mut().unwrap();
            services.insert("router-api".to_owned(), 0);
            services.remove("controller-scheduler");
        },
        "critical scheduler-away flynn-host ps -a
         critical router-away flynn-host ps -a",
    );
}

#[test]
fn a_database_whose_host_is_silent_names_the_host() {
    let mut facts = well(3);
    away(&mut facts, 1);
    facts.discovery.servers[1].answer.as_mut().unwrap().leader = Some(ip(2));
    facts.discovery.servers[2].answer.as_mut().unwrap().leader = Some(ip(2));
    facts.platform.database = Seen::Unwell("no server is registered".to_owned());
    let found = &diagnose(&facts)[0];
    assert_eq!(
        found.seen,
        "PostgreSQL is away: no server is registered; no host that answers runs it, and host1 is silent"
    );
    assert_eq!(found.next.last().unwrap().on.as_deref(), Some("host1"));
}

#[test]
fn jobs_that_are_missing() {
    let wanted = |count, on_every_host, system| Wanted {
        app: "discoverd".to_owned(),
        process: "app".to_owned(),
        system,
        count,
        on_every_host,
        tagged: false,
    };
    let want = |wanted: Wanted| move |facts: &mut Facts| facts.platform.wanted = Some(vec![wanted]);
    check(3, want(wanted(1, true, true)), "");
    check(3, want(wanted(3, false, true)), "");
    check(3, want(wanted(4, false, true)), "warning platform-short flynn -a discoverd ps");
    check(3, want(wanted(2, true, true)), "warning platform-short flynn -a discoverd ps");
    check(3, want(wanted(4, false, false)), "warning app-short flynn -a discoverd ps");
    let none = Wanted { process: "web".to_owned(), ..wanted(1, false, true) };
    check(3, want(none), "critical platform-short flynn -a discoverd ps");
    let tagged = Wanted { tagged: true, ..wanted(2, true, true) };
    check(3, want(tagged), "");
    check(
        3,
        |facts| {
            facts.platform.wanted = Some(vec![wanted(4, false, false)]);
            facts.platform.waiting = vec![Waiting {
                app: "discoverd".to_owned(),
                process: "app".to_owned(),
                reason: "no host has tag disk=ssd".to_owned(),
            }];
        },
        "warning job-waits flynn -a discoverd ps",
    );
}

#[test]
fn names_that_lead_nowhere() {
    let route = |addresses: Option<Vec<Ipv4Addr>>, backends, wanted| RouteFacts {
        domain: "shop.example.com".to_owned(),
        app: "shop".to_owned(),
        backends,
        wanted,
        addresses: addresses.map(|ips| ips.into_iter().map(IpAddr::V4).collect()),
    };
    let with = |route: RouteFacts| move |facts: &mut Facts| facts.platform.routes = vec![route];
    let dig = "dig +short shop.example.com   # should be 192.0.2.1, 192.0.2.2, 192.0.2.3";
    check(3, with(route(Some(vec![ip(2)]), Some(1), 1)), "");
    check(3, with(route(None, None, 1)), "");
    check(3, with(route(Some(vec![Ipv4Addr::LOCALHOST]), Some(1), 1)), "");
    check(3, with(route(Some(vec![]), Some(1), 1)), &format!("warning name-nowhere {dig}"));
    check(3, with(route(Some(vec![ip(99)]), Some(1), 1)), &format!("note name-elsewhere {dig}"));
    check(3, with(route(Some(vec![ip(1)]), Some(0), 2)), "warning route-empty flynn -a shop ps");
    check(
        3,
        with(route(Some(vec![ip(1)]), Some(0), 0)),
        "note route-empty flynn -a shop scale web=1",
    );
}
