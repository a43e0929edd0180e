//! Findings about discoverd and what is kept in it.

use super::*;

#[test]
fn a_lost_quorum_silences_what_follows_from_it() {
    check(
        3,
        |facts| {
            (2..=3).for_each(|n| away(facts, n));
            facts.discovery.servers[0].answer.as_mut().unwrap().leader = None;
            facts.hosts.iter_mut().for_each(|host| host.registered = false);
            facts.platform.services = Some(BTreeMap::new());
        },
        "critical quorum-lost on host2: flynn-host start
         warning host2 host-silent ping -c 3 192.0.2.2
         warning host3 host-silent ping -c 3 192.0.2.3",
    );
}

#[test]
fn the_numbers_of_a_lost_quorum_are_told() {
    let mut facts = well(3);
    (2..=3).for_each(|n| away(&mut facts, n));
    facts.discovery.servers[0].answer.as_mut().unwrap().leader = None;
    let findings = diagnose(&facts);
    assert_eq!(
        findings[0].seen,
        "discoverd has no quorum: 1 of 3 voters answer and 2 must; silent: host2, host3"
    );
    let last = findings[0].next.last().unwrap();
    assert_eq!(
        (last.when, last.command.as_str()),
        (Some("they never come back"), "flynn-host fix")
    );
}

#[test]
fn voters_without_a_leader() {
    check(
        3,
        |facts| each_server(facts, |answer| answer.leader = None),
        "critical no-leader flynn-host doctor   # again: an election takes two seconds",
    );
    check(
        1,
        |facts| each_server(facts, |answer| *answer = ServerAnswer::default()),
        "critical discoverd-unfounded flynn-host ps   # then: flynn-host log of a discoverd, which says who is missing",
    );
}

#[test]
fn no_discoverd_at_all() {
    let gone = |facts: &mut Facts| {
        facts.discovery = Discovery::default();
        for server in 1..=3 {
            facts.discovery.servers.push(Server { ip: ip(server), answer: None });
        }
        facts.platform = Platform::default();
    };
    check(
        3,
        gone,
        "critical no-discoverd flynn-host log --host-url http://192.0.2.1:1113 host1-discoverd",
    );
    check(
        3,
        |facts| {
            gone(facts);
            each_host(facts, |answer| answer.jobs.clear());
        },
        "critical no-platform CLUSTER_DOMAIN=example.com flynn-host bootstrap",
    );
}

#[test]
fn two_that_lead() {
    check(
        3,
        |facts| facts.discovery.servers[1].answer.as_mut().unwrap().leader = Some(ip(2)),
        "critical two-leaders flynn-host doctor   # again: one that was replaced knows it within seconds",
    );
}

#[test]
fn numbers_of_voters_that_are_no_good() {
    let voters = |n: u8| {
        move |facts: &mut Facts| {
            let voters: BTreeSet<_> = (1..=n).map(ip).collect();
            each_server(facts, |answer| answer.voters.clone_from(&voters));
        }
    };
    check(5, voters(4), "warning voters-even flynn-host promote 192.0.2.5");
    check(4, voters(4), "warning voters-even flynn-host demote 192.0.2.4");
    check(3, voters(1), "warning voters-few flynn-host promote 192.0.2.2");
    check(4, voters(3), "");
}

#[test]
fn what_hosts_that_are_gone_left_in_discoverd() {
    check(
        3,
        |facts| {
            each_server(facts, |answer| {
                answer.voters = [ip(1), ip(2), ip(9)].into();
                answer.learners = Some([ip(3), ip(8)].into());
            });
            let leases = facts.discovery.leases.as_mut().unwrap();
            leases.extend([ip(7)]);
        },
        "warning 192.0.2.9 voter-of-nobody flynn-host demote --force 192.0.2.9
         warning 192.0.2.8 member-of-nobody flynn-host forget 192.0.2.8
         warning 192.0.2.7 lease-of-nobody flynn-host forget 192.0.2.7",
    );
}

#[test]
fn a_discoverd_that_is_away_or_apart() {
    let learner = |facts: &mut Facts| {
        each_server(facts, |answer| {
            answer.voters = [ip(1)].into();
            answer.learners = Some([ip(2)].into());
        });
    };
    check(
        2,
        |facts| {
            learner(facts);
            facts.discovery.servers[1].answer = None;
            add_third(facts);
        },
        "warning voters-few flynn-host promote 192.0.2.2
         warning host2 discoverd-away flynn-host log host2-discoverd",
    );
    check(
        3,
        |facts| facts.discovery.servers[2].answer.as_mut().unwrap().leader = None,
        "warning host3 discoverd-away flynn-host log host3-discoverd",
    );
    check(
        3,
        |facts| facts.discovery.servers[2].answer = Some(ServerAnswer::default()),
        "warning host3 discoverd-away flynn-host log host3-discoverd",
    );
}
