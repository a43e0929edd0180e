//! A quorum that is gone for good: a survivor begins a new cluster, and what is left of the old one never
//! votes in it.

use std::collections::BTreeSet;

use discoverd_api::{Instance, ServiceConfig};

use crate::lab::{Lab, N};
use crate::support::until;

fn instance(n: u16) -> Instance {
    Instance::new("tcp", &format!("10.0.0.1:{n}"))
}

async fn count(lab: &Lab, n: N) -> usize {
    lab.client(n).instances("web").await.unwrap().len()
}

/// Asks a server to begin anew without these; gives status and text.
async fn ask(lab: &Lab, n: N, lost: &[N]) -> (u16, String) {
    let body = serde_json::json!({ "lost": lab.addrs(lost) }).to_string();
    let answer = lab.ask(n, "POST", "/raft/rebuild", &body).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn one_survivor_begins_a_new_cluster_and_the_old_ones_follow_it() {
    let mut lab = Lab::running(3).await;
    let leader = lab.leader().await;
    let others: Vec<N> = lab.alive().into_iter().filter(|n| *n != leader).collect();
    let (survivor, second) = (others[0], others[1]);
    lab.client(leader).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.client(leader).put_instance("web", &instance(1)).await.unwrap();
    until("the copy", async || count(&lab, survivor).await == 1).await;
    let (status, why) = ask(&lab, survivor, &[leader, second]).await;
    assert!(status == 409 && why.contains("there is a leader"), "{status} {why}");

    // What the others agree on without the survivor is lost with them.
    lab.isolate(survivor);
    lab.client(leader).put_instance("web", &instance(2)).await.unwrap();
    lab.kill(leader);
    lab.kill(second);
    lab.heal();
    until("no leader", async || lab.leader_seen_by(survivor).await.is_none()).await;
    let (status, why) = ask(&lab, survivor, &[leader]).await;
    assert!(status == 409 && why.contains("was not named as lost"), "{status} {why}");
    assert_eq!(ask(&lab, survivor, &[leader, second]).await, (200, String::new()));
    lab.kill(survivor);
    lab.start(survivor).await;
    lab.voters_are(&[survivor], &[survivor]).await;
    assert_eq!(lab.leader().await, survivor);
    assert_eq!(count(&lab, survivor).await, 1, "what it knew is there");
    lab.client(survivor).put_instance("web", &instance(3)).await.unwrap();

    // The old ones, on their old disks, with an entry that the new cluster never had.
    for old in [leader, second] {
        lab.start(old).await;
        until("the copy", async || {
            let found = lab.client(old).instances("web").await.unwrap();
            let found: BTreeSet<_> = found.into_iter().map(|instance| instance.addr).collect();
            found == BTreeSet::from([instance(1).addr, instance(3).addr])
        })
        .await;
        lab.voters_are(&[survivor, old], &[survivor]).await;
    }
    let indices = lab.client(survivor).instances("web").await.unwrap();
    assert!(indices[1].index > 1 << 32, "no index of the old cluster is given again: {indices:?}");
    lab.client(second).promote().await.unwrap();
    lab.voters_are(&[1, 2, 3], &[survivor, second]).await;

    // A restart finds nothing more to rebuild.
    lab.kill(survivor);
    lab.start(survivor).await;
    lab.voters_are(&[1, 2, 3], &[survivor, second]).await;
}

#[tokio::test]
async fn a_survivor_that_knows_less_is_refused() {
    let mut lab = Lab::running(5).await;
    let leader = lab.leader().await;
    let others: Vec<N> = lab.alive().into_iter().filter(|n| *n != leader).collect();
    let (behind, ahead) = (others[0], others[1]);
    lab.client(leader).add_service("web", ServiceConfig::default()).await.unwrap();
    until("the copy", async || lab.client(behind).put_instance("web", &instance(9)).await.is_ok())
        .await;
    lab.isolate(behind);
    lab.client(leader).put_instance("web", &instance(1)).await.unwrap();
    until("the copy", async || count(&lab, ahead).await == 2).await;
    let lost = [leader, others[2], others[3]];
    lost.iter().for_each(|n| lab.kill(*n));
    lab.heal();
    for n in [behind, ahead] {
        until("no leader", async || lab.leader_seen_by(n).await.is_none()).await;
    }
    let (status, why) = ask(&lab, behind, &lost).await;
    assert!(status == 409 && why.contains("has more of the log: rebuild from it"), "{why}");
    let (status, why) = ask(&lab, ahead, &[lost[0], lost[1], lost[2], behind]).await;
    assert!(status == 409 && why.contains("answers and is not lost"), "{why}");
    assert_eq!(ask(&lab, ahead, &lost).await.0, 200);
    lab.kill(ahead);
    lab.start(ahead).await;
    // The other survivor follows, and knows what it lacked.
    until("the copy", async || count(&lab, behind).await == 2).await;
    lab.voters_are(&[behind, ahead], &[ahead]).await;
}
