//! Servers that are lost, cut off, stand still or come back: the others go on, nothing healthy is
//! announced down, and all agree in the end.

use std::sync::Arc;
use std::time::Duration;

use discoverd_api::{EventKind, Instance, ServiceConfig};

use crate::lab::{Lab, N};
use crate::support::{HandClock, patiently, until};

fn instance(n: u16) -> Instance {
    Instance::new("tcp", &format!("10.0.0.1:{n}"))
}

/// The instances of `web` as each server that runs knows them, once all know the same.
async fn all_equal(lab: &Lab, count: usize) {
    until(&format!("{count} instances everywhere"), async || {
        let mut seen = Vec::new();
        for n in lab.alive() {
            seen.push(lab.client(n).instances("web").await.unwrap());
        }
        seen.iter().all(|one| one.len() == count && *one == seen[0])
    })
    .await;
}

fn others(lab: &Lab, but: N) -> Vec<N> {
    lab.alive().into_iter().filter(|n| *n != but).collect()
}

/// PUTs one instance at one server and gives the status, asking nobody else.
async fn put(lab: &Lab, n: N, one: &Instance) -> u16 {
    let path = format!("/services/web/instances/{}", one.id);
    lab.ask(n, "PUT", &path, &serde_json::to_string(one).unwrap()).await.status
}

#[tokio::test]
async fn a_lost_leader_is_replaced_and_catches_up_when_it_is_back() {
    let mut lab = Lab::running(3).await;
    let lost = lab.leader().await;
    lab.client(lost).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(lost).put_instance("web", &instance(1)).await.unwrap();
    lab.kill(lost);
    let rest = lab.alive();
    lab.leader_of(&rest).await;
    lab.client(rest[0]).put_instance("web", &instance(2)).await.unwrap();
    lab.start(lost).await;
    all_equal(&lab, 2).await;
    lab.leader().await;
    for n in lab.alive() {
        lab.client(n).put_instance("web", &instance(2 + u16::from(n))).await.unwrap();
    }
    all_equal(&lab, 5).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_takes_no_writes_and_answers_reads() {
    let lab = Lab::running(5).await;
    let cut = lab.leader().await;
    lab.client(cut).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(cut).put_instance("web", &instance(1)).await.unwrap();
    all_equal(&lab, 1).await;
    lab.isolate(cut);
    // Not even a heartbeat: who sends it must go where it counts.
    until("the cut off leader's doubt", async || put(&lab, cut, &instance(1)).await == 503).await;
    assert_eq!(put(&lab, cut, &instance(2)).await, 503);
    assert_eq!(lab.ask(cut, "GET", "/services/web/instances", "").await.status, 200);
    let rest = others(&lab, cut);
    let next = lab.leader_of(&rest).await;
    assert_eq!(put(&lab, next, &instance(3)).await, 200);
    let age = lab.ask(cut, "GET", "/ping", "").await;
    assert!(age.header("discoverd-age").unwrap().parse::<u64>().unwrap() >= 3, "{age:?}");
    lab.heal();
    all_equal(&lab, 2).await;
    lab.leader().await;
}

#[tokio::test]
async fn two_of_three_tell_of_a_write_before_the_leader_hears_that_they_have_it() {
    let lab = Lab::running(3).await;
    let leader = lab.leader().await;
    lab.client(leader).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(leader).put_instance("web", &instance(1)).await.unwrap();
    all_equal(&lab, 1).await;
    lab.deafen(leader);
    let (second, written) = (instance(2), std::cell::Cell::new(false));
    let write = async {
        assert_eq!(put(&lab, leader, &second).await, 200);
        assert!(written.get(), "the leader answered before it heard of the others");
    };
    let seen = async {
        for n in others(&lab, leader) {
            until("news at the others", async || {
                lab.client(n).instances("web").await.unwrap().len() == 2
            })
            .await;
        }
        let known = lab.ask(leader, "GET", "/services/web/instances", "").await;
        assert!(!known.body.contains(&second.addr), "the leader heard nothing: {known:?}");
        written.set(true);
        lab.heal();
    };
    tokio::join!(write, seen);
    all_equal(&lab, 2).await;
}

#[tokio::test]
async fn a_follower_that_comes_and_goes_costs_the_others_nothing() {
    let lab = Lab::running(3).await;
    let leader = lab.leader().await;
    let flapping = others(&lab, leader)[0];
    lab.client(leader).add_service("web", ServiceConfig::default()).await.unwrap();
    let mut port = 0;
    for _ in 0..3 {
        lab.isolate(flapping);
        // Until it has long wanted to be elected.
        until("its doubt", async || lab.leader_seen_by(flapping).await.is_none()).await;
        port += 1;
        assert_eq!(put(&lab, leader, &instance(port)).await, 200, "the leader leads on");
        lab.heal();
        until("its return", async || lab.leader_seen_by(flapping).await == Some(leader)).await;
        port += 1;
        assert_eq!(put(&lab, leader, &instance(port)).await, 200, "nobody deposed the leader");
    }
    all_equal(&lab, 6).await;
}

#[tokio::test]
async fn a_member_that_was_away_while_the_log_was_compacted_gets_a_snapshot() {
    let mut lab = Lab::of(3);
    lab.timing.snapshot_after = 20;
    for n in [1, 2, 3] {
        lab.start(n).await;
    }
    let away = others(&lab, lab.leader().await)[0];
    lab.client(away).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(away).put_instance("web", &instance(1000)).await.unwrap();
    all_equal(&lab, 1).await;
    lab.kill(away);
    let rest = lab.alive();
    for n in 0..100 {
        lab.client(rest[0]).put_instance("web", &instance(n)).await.unwrap();
    }
    lab.client(rest[0]).remove_instance("web", &instance(1000).id).await.unwrap();
    lab.start(away).await;
    // Who watches there is told what the snapshot changed.
    let mut watch = lab.client(away).watch("web");
    patiently("the news", async { while watch.next().await.kind != EventKind::Down {} }).await;
    all_equal(&lab, 100).await;
    // What came as a snapshot is on its disk.
    lab.kill(rest[0]);
    lab.kill(rest[1]);
    lab.kill(away);
    lab.start(away).await;
    until("the snapshot", async || {
        lab.client(away).instances("web").await.unwrap_or_default().len() == 100
    })
    .await;
}

#[tokio::test]
async fn a_new_leader_announces_nobody_down_who_sends_heartbeats() {
    let mut lab = Lab::of(3);
    let clock = Arc::new(HandClock::default());
    lab.clock = Arc::clone(&clock) as _;
    for n in [1, 2, 3] {
        lab.start(n).await;
    }
    let lost = lab.leader().await;
    lab.client(lost).add_service("web", ServiceConfig::default()).await.unwrap();
    let (alive, silent) = (instance(1), instance(2));
    lab.client(lost).put_instance("web", &alive).await.unwrap();
    lab.client(lost).put_instance("web", &silent).await.unwrap();
    // The old leader is about to let the silent one expire when it is lost.
    for _ in 0..9 {
        clock.advance(Duration::from_secs(1));
        lab.client(lost).put_instance("web", &alive).await.unwrap();
    }
    let mut watch = lab.client(others(&lab, lost)[0]).watch("web");
    patiently("the present", async { while watch.next().await.kind != EventKind::Current {} })
        .await;
    lab.kill(lost);
    let next = lab.leader_of(&lab.alive()).await;
    // Its grace starts when it leads, and nobody of whom it did not hear yet is down before that is
    // over: for 19 of 20 seconds none, not even the silent one.
    let pass = async |seconds: u32| {
        for _ in 0..seconds {
            clock.advance(Duration::from_secs(1));
            lab.client(next).put_instance("web", &alive).await.unwrap();
        }
    };
    pass(19).await;
    assert_eq!(lab.client(next).instances("web").await.unwrap().len(), 2);
    let down = patiently("the silent one's end", async {
        loop {
            tokio::select! {
                event = watch.next() => if event.kind == EventKind::Down { return event },
                () = pass(1) => {}
            }
        }
    });
    assert_eq!(down.await.instance.map(|one| one.id), Some(silent.id));
    // Whoever told it may be a moment ahead of the others.
    all_equal(&lab, 1).await;
}

#[tokio::test]
async fn a_leader_that_stood_still_gives_way_and_disturbs_nobody_when_it_goes_on() {
    let mut lab = Lab::running(3).await;
    let paused = lab.leader().await;
    lab.client(paused).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(paused).put_instance("web", &instance(1)).await.unwrap();
    lab.pause(paused);
    let rest = others(&lab, paused);
    let next = lab.leader_of(&rest).await;
    assert_eq!(put(&lab, next, &instance(2)).await, 200);
    lab.resume(paused);
    until("its agreement", async || lab.leader_seen_by(paused).await == Some(next)).await;
    assert_eq!(put(&lab, next, &instance(3)).await, 200);
    all_equal(&lab, 3).await;
}
