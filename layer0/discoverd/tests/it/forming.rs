//! How servers become one cluster: founded once by its first voters, joined by all others, and never
//! taken for another by a server that lost its disk.

use discoverd_api::{EventKind, Instance, ServiceConfig, ServiceMeta};

use crate::lab::Lab;
use crate::support::{patiently, until};

fn instance(n: u16) -> Instance {
    Instance::new("tcp", &format!("10.0.0.1:{n}"))
}

async fn has_instances(lab: &Lab, n: u8, count: usize) {
    until(&format!("{count} instances at {n}"), async || {
        lab.client(n).instances("web").await.unwrap_or_default().len() == count
    })
    .await;
}

#[tokio::test]
async fn first_voters_found_one_cluster_whichever_starts_first() {
    let mut lab = Lab::of(3);
    // The one that follows without a vote, two voters, and last the one that founds.
    for n in [4, 3, 2] {
        lab.start(n).await;
        let refused = lab.ask(n, "PUT", "/services/web", "{}").await;
        assert_eq!((refused.status, refused.header("discoverd-age")), (503, Some("unknown")));
        assert_eq!(lab.ask(n, "GET", "/raft/peers", "").await.body, "[]");
    }
    lab.start(1).await;
    lab.leader_of(&[1, 2, 3]).await;
    lab.voters_are(&[1, 2, 3, 4], &[1, 2, 3]).await;
    lab.client(2).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(3).put_instance("web", &instance(1)).await.unwrap();
    for n in lab.alive() {
        has_instances(&lab, n, 1).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_vote_answers_reads_and_streams_and_sends_writers_on() {
    let mut lab = Lab::running(1).await;
    lab.start(2).await;
    lab.client(2).add_service("web", ServiceConfig::default()).await.unwrap();
    until("the copy", async || lab.ask(2, "GET", "/services/web/leader", "").await.index() > 1)
        .await;
    let mut watch = lab.client(2).watch("web");
    while patiently("the present", watch.next()).await.kind != EventKind::Current {}
    let meta = ServiceMeta::create(&"data").unwrap();
    let stored = lab.client(2).set_meta("web", &meta).await.unwrap();
    let told = patiently("the event", watch.next()).await;
    assert_eq!(
        (told.kind, told.service_meta.map(|m| m.index)),
        (EventKind::ServiceMeta, Some(stored.index))
    );
    let sent_on = lab.ask(2, "DELETE", "/services/web?x=1", "").await;
    let leader = lab.addr(1);
    assert_eq!(sent_on.status, 307);
    assert_eq!(
        sent_on.header("location"),
        Some(format!("http://{leader}/services/web?x=1").as_str())
    );
    assert_eq!(sent_on.header("discoverd-age"), Some("0"));
    lab.voters_are(&[1, 2], &[1]).await;

    // Alone, it says what it knew and how long ago that was; writers are told why it cannot.
    lab.kill(1);
    until("some age", async || {
        let answer = lab.ask(2, "GET", "/services/web/meta", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let age: u64 = answer.header("discoverd-age").unwrap().parse().unwrap();
        age > 3
    })
    .await;
    let refused = lab.ask(2, "DELETE", "/services/web", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("discoverd: no known leader"), "{refused:?}");
    // So does it after a restart.
    lab.kill(2);
    lab.start(2).await;
    until("what it knew", async || lab.ask(2, "GET", "/services/web/meta", "").await.status == 200)
        .await;
    lab.start(1).await;
    lab.client(2).remove_service("web").await.unwrap();
}

#[tokio::test]
async fn a_voter_that_lost_its_disk_gets_a_new_identity_and_then_its_vote_back() {
    let mut lab = Lab::running(3).await;
    lab.client(1).add_service("web", ServiceConfig::default()).await.unwrap();
    for n in 1..=10 {
        lab.client(1).put_instance("web", &instance(n)).await.unwrap();
    }
    // Its followers alone know all of that when the founder comes back with nothing: it must neither
    // found a second cluster nor vote as the one it was.
    for n in [1, 2, 3] {
        lab.kill(n);
    }
    lab.lose_disk(1).await;
    lab.start(1).await;
    lab.start(2).await;
    let seen = async || (lab.leader_seen_by(1).await, lab.leader_seen_by(2).await);
    let waited = tokio::time::timeout(lab.timing.election * 5, async {
        while seen().await == (None, None) {
            tokio::time::sleep(lab.timing.heartbeat).await;
        }
    });
    assert!(waited.await.is_err(), "an empty disk and one of three voters make no leader");
    lab.start(3).await;
    has_instances(&lab, 1, 10).await;
    lab.leader().await;
    // Known, and answered once the new disk has the vote of the lost one.
    lab.client(3).add_peer(&lab.addr(1).to_string()).await.unwrap();
    lab.voters_are(&[1, 2, 3], &[1, 2, 3]).await;
    // Its vote counts again, and it knows what it needs to lead.
    lab.kill(2);
    lab.leader_of(&[1, 3]).await;
    lab.client(1).put_instance("web", &instance(11)).await.unwrap();
    has_instances(&lab, 1, 11).await;
    has_instances(&lab, 3, 11).await;
}
