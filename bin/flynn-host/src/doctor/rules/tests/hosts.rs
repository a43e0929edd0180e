//! Findings about hosts and their machines.

use super::*;

#[test]
fn nobody_answers() {
    check(3, |facts| (1..=3).for_each(|n| away(facts, n)), "critical no-host flynn-host start");
    assert_eq!(lines(&diagnose(&Facts::default())), ["critical no-host flynn-host start"]);
}

#[test]
fn a_silent_host_and_its_vote() {
    check(
        3,
        |facts| away(facts, 2),
        "warning host2 host-silent ping -c 3 192.0.2.2
         warning host2 voter-away on host2: flynn-host start",
    );
    check(
        3,
        |facts| {
            facts.hosts[1].answer = Err(Silence::NoDaemon);
        },
        "warning host2 host-no-daemon on host2: flynn-host start",
    );
}

#[test]
fn hosts_that_others_do_not_know() {
    check(
        3,
        |facts| facts.hosts[2].registered = false,
        "warning host3 host-unregistered flynn-host admit 192.0.2.3",
    );
    check(
        3,
        |facts| {
            machine(facts, 0).members.remove(&ip(3));
        },
        "warning host3 host-stranger flynn-host admit 192.0.2.3",
    );
    check(
        3,
        |facts| {
            facts.hosts[1].answer.as_mut().unwrap().draining = true;
        },
        "note host2 host-draining flynn-host drain --end host2",
    );
    check(
        3,
        |facts| facts.hosts[1].answer.as_mut().unwrap().version = "2".to_owned(),
        "warning versions-differ on host2: flynn-host version   # install that of the others, then: flynn-host start",
    );
    check(
        2,
        |facts| {
            each_server(facts, |answer| {
                answer.voters = [ip(1)].into();
                answer.learners = Some([ip(2)].into());
            });
        },
        "warning two-hosts flynn-host admit ADDRESS   # of a third one, then start flynn-host there",
    );
}

#[test]
fn machines_that_run_out() {
    for (free, total, expected) in [
        (GIB / 8, 100 * GIB, "critical host2 disk-full on host2: du -xhd 2 /data | sort -h | tail"),
        (GIB, 100 * GIB, "critical host2 disk-full on host2: du -xhd 2 /data | sort -h | tail"),
        (3 * GIB, 100 * GIB, "warning host2 disk-low on host2: du -xhd 2 /data | sort -h | tail"),
        (3 * GIB, 20 * GIB, ""),
        (8 * GIB, 100 * GIB, ""),
        (0, 0, ""),
    ] {
        check(3, |facts| machine(facts, 1).disk = (free, total), expected);
    }
    check(
        3,
        |facts| machine(facts, 1).memory = (GIB / 16, 8 * GIB),
        "warning host2 memory-low on host2: ps -eo pid,rss,args --sort=-rss | head",
    );
    check(
        3,
        |facts| facts.hosts[1].answer.as_mut().unwrap().subnet = None,
        "critical host2 no-network flynn -a flannel ps",
    );
}

#[test]
fn clocks_that_differ() {
    let expected = "warning host2 clock-skew on host2: timedatectl set-ntp true   # or start another NTP client";
    check(3, |facts| machine(facts, 1).clock = (60_000, 5), expected);
    check(3, |facts| machine(facts, 1).clock = (-60_000, 5), expected);
    check(3, |facts| machine(facts, 1).clock = (60_000, 60_000), "");
    check(3, |facts| machine(facts, 1).clock = (1_500, 5), "");
    // Ours is the one that is wrong.
    check(3, |facts| (0..3).for_each(|n| machine(facts, n).clock = (90_000 + n as i64, 5)), "");
}
