//! Voters come and go while clients write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use discoverd_api::{Instance, ServiceConfig};
use kit_tasks::Tasks;

use crate::lab::Lab;
use crate::support::{PATIENCE, until};

fn instance(n: u16) -> Instance {
    Instance::new("tcp", &format!("10.0.0.1:{n}"))
}

#[tokio::test]
async fn a_cluster_grows_to_five_voters_and_shrinks_to_one_under_writes() {
    let mut lab = Lab::running(1).await;
    for n in 2..=5 {
        lab.start(n).await;
    }
    lab.client(5).add_service("web", ServiceConfig::default()).await.unwrap();
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(0)));
    let tasks = Tasks::root("writer");
    {
        let (client, done) = (lab.client(5).clone(), Arc::clone(&done));
        let written = Arc::clone(&written);
        tasks.spawn("writer", async move {
            while !done.load(Ordering::SeqCst) {
                let n = written.load(Ordering::SeqCst);
                client.put_instance("web", &instance(n)).await.unwrap();
                written.store(n + 1, Ordering::SeqCst);
            }
        });
    }
    let writes_go_on = async || {
        let before = written.load(Ordering::SeqCst);
        until("more writes", async || written.load(Ordering::SeqCst) > before + 2).await;
    };
    for n in 2..=5 {
        let promoted = lab.ask(n, "POST", "/raft/promote", "").await;
        assert_eq!((promoted.status, promoted.body.as_str()), (200, ""), "{promoted:?}");
        lab.voters_are(&[1, 2, 3, 4, 5], &(1..=n).collect::<Vec<_>>()).await;
        writes_go_on().await;
    }
    lab.client(5).promote().await.unwrap(); // Again is fine.
    // The leader itself is among those that go.
    for n in 1..=4 {
        until(&format!("{n} to follow"), async || {
            lab.ask(n, "POST", "/raft/demote", "").await.status == 200
        })
        .await;
        lab.voters_are(&[1, 2, 3, 4, 5], &(n + 1..=5).collect::<Vec<_>>()).await;
        writes_go_on().await;
    }
    lab.client(1).demote().await.unwrap(); // It follows already.
    let last = lab.ask(5, "POST", "/raft/demote", "").await;
    assert_eq!(last.status, 409, "{last:?}");
    assert!(last.body.contains("is the last voter"), "{last:?}");
    done.store(true, Ordering::SeqCst);
    tasks.shutdown(PATIENCE).await;
    let count = usize::from(written.load(Ordering::SeqCst));
    for n in lab.alive() {
        until(&format!("all at {n}"), async || {
            lab.client(n).instances("web").await.unwrap().len() == count
        })
        .await;
    }
}

#[tokio::test]
async fn a_dead_voter_is_removed_from_anywhere_and_a_needed_one_never() {
    let mut lab = Lab::running(3).await;
    let leader = lab.leader().await;
    let dead = lab.alive().into_iter().find(|n| *n != leader).unwrap();
    lab.kill(dead);
    let rest = lab.alive();
    let follower = rest.iter().copied().find(|n| *n != leader).unwrap();
    // One of the two that are left is needed until the dead one no longer counts.
    let why = lab.addr(follower);
    let refused = lab.ask(follower, "POST", "/raft/demote", "").await;
    let reason = format!("without {why} only 1 of 2 voters would answer");
    assert!(refused.status == 409 && refused.body.contains(&reason), "{refused:?}");
    lab.client(follower).remove_peer(&lab.addr(dead).to_string()).await.unwrap();
    lab.voters_are(&rest, &rest).await;
    assert_eq!(lab.ask(follower, "POST", "/raft/demote", "").await.status, 200);
    lab.voters_are(&rest, &[leader]).await;
    // Back on its old disk it belongs again, without its vote.
    lab.client(leader).add_service("web", ServiceConfig::default()).await.unwrap();
    lab.start(dead).await;
    let late = Instance::new("tcp", "10.0.0.1:80");
    lab.client(leader).put_instance("web", &late).await.unwrap();
    until("the copy", async || lab.client(dead).instances("web").await.unwrap().len() == 1).await;
    lab.voters_are(&[1, 2, 3], &[leader]).await;
    lab.client(dead).add_peer(&lab.addr(dead).to_string()).await.unwrap();
    lab.voters_are(&[1, 2, 3], &[leader, dead]).await;
    let roster = lab.client(follower).raft_members().await.unwrap();
    let votes: Vec<_> = roster.into_iter().map(|member| (member.addr, member.votes)).collect();
    let all = [1, 2, 3].map(|n| (lab.addr(n).to_string(), n != follower));
    assert_eq!(votes, all, "those without a vote are listed, too");
}
