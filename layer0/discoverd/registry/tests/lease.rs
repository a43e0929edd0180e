//! Leases: who expires when, and that a flapping election or a pause never expires the living.

use std::time::Duration;

use discoverd_registry::{Id, Lapsed, LeaseConfig, LeaseEffect, LeaseEvent, Leases, LogIndex};
use kit_clock::Mono;
use proptest::prelude::*;

fn at(seconds: u64) -> Mono {
    Mono::from_origin(Duration::from_secs(seconds))
}

fn lapsed(id: &str) -> Lapsed {
    Lapsed { service: "web".into(), id: id.into(), touched: LogIndex(7) }
}

fn heartbeat(id: &str) -> LeaseEvent {
    LeaseEvent::Heartbeat("web".into(), id.into())
}

fn elected(ids: &[&str]) -> LeaseEvent {
    LeaseEvent::Elected(ids.iter().map(|id| lapsed(id)).collect())
}

/// Runs the clock to `now` and gives the ids condemned.
fn condemned(leases: &mut Leases, now: Mono) -> Vec<Id> {
    leases.handle_timeout(now);
    leases.check_invariants();
    let mut ids = Vec::new();
    while let Some(LeaseEffect::Expire(lapsed)) = leases.poll_effect() {
        ids.extend(lapsed.into_iter().map(|one| one.id));
    }
    ids
}

#[test]
fn silence_for_a_ttl_condemns_and_heartbeats_keep() {
    let mut leases = Leases::new(LeaseConfig::default());
    leases.handle(elected(&["a", "b"]), at(0));
    for second in 1..=40 {
        if second % 5 == 0 {
            leases.handle(heartbeat("a"), at(second));
        }
        let expired = condemned(&mut leases, at(second));
        let want: &[Id] = if second == 20 { &["b".into()] } else { &[] };
        assert_eq!(expired, want, "at {second} s");
    }
    assert!(leases.is_condemned("web", "b"));
    leases.handle(LeaseEvent::Removed("web".into(), "b".into()), at(41));
    assert_eq!(leases.view().leases, 1);
}

#[test]
fn a_new_leader_lets_nothing_expire_before_its_grace_is_over() {
    let mut leases = Leases::new(LeaseConfig::default());
    leases.handle(elected(&["a"]), at(100));
    assert_eq!(condemned(&mut leases, at(119)), []);
    leases.handle(LeaseEvent::Doubted, at(119));
    assert_eq!(condemned(&mut leases, at(138)), []);
    assert_eq!(leases.next_timeout().map(|(due, _)| due), Some(at(139)));
    assert_eq!(condemned(&mut leases, at(139)), ["a".into()]);
}

#[test]
fn a_server_that_does_not_lead_expires_nobody() {
    let mut leases = Leases::new(LeaseConfig::default());
    leases.handle(LeaseEvent::Touched(lapsed("a")), at(0));
    assert_eq!((condemned(&mut leases, at(1000)), leases.next_timeout()), (vec![], None));
    leases.handle(elected(&["a"]), at(1000));
    leases.handle(LeaseEvent::Deposed, at(1001));
    assert_eq!((condemned(&mut leases, at(2000)), leases.next_timeout()), (vec![], None));
}

/// The order's time ran out, the leader kept it in its log, and the log was carried out later: found by
/// simulation.
#[test]
fn after_a_failed_expiry_only_the_log_can_say_that_an_instance_lives() {
    let mut leases = Leases::new(LeaseConfig::default());
    leases.handle(elected(&["a"]), at(0));
    assert_eq!(condemned(&mut leases, at(30)), ["a".into()]);
    leases.handle(LeaseEvent::ExpiryFailed(vec![lapsed("a")]), at(31));
    assert!(leases.is_condemned("web", "a"));
    leases.handle(LeaseEvent::Touched(Lapsed { touched: LogIndex(9), ..lapsed("a") }), at(32));
    assert!(!leases.is_condemned("web", "a"));
}

#[test]
fn a_failed_expiry_is_ordered_again() {
    let mut leases = Leases::new(LeaseConfig::default());
    leases.handle(elected(&["a"]), at(0));
    assert_eq!(condemned(&mut leases, at(30)), ["a".into()]);
    assert_eq!(condemned(&mut leases, at(31)), []);
    leases.handle(LeaseEvent::ExpiryFailed(vec![lapsed("a")]), at(32));
    assert_eq!(condemned(&mut leases, at(33)), ["a".into()]);
    leases.handle(LeaseEvent::Touched(lapsed("a")), at(34));
    assert_eq!(condemned(&mut leases, at(43)), []);
    assert_eq!(condemned(&mut leases, at(44)), ["a".into()]);
}

proptest! {
    /// Instances that heartbeat at least every 5 s survive any sequence of elections and depositions.
    #[test]
    fn flaps_never_expire_the_living(flaps in prop::collection::vec((1..30_u64, 0..3_u8), 1..40)) {
        let mut leases = Leases::new(LeaseConfig::default());
        let mut now = 0;
        for (span, flap) in flaps {
            match flap {
                0 => leases.handle(elected(&["a", "b", "dead"]), at(now)),
                1 => leases.handle(LeaseEvent::Deposed, at(now)),
                _ => leases.handle(LeaseEvent::Doubted, at(now)),
            }
            for _ in 0..span {
                now += 1;
                for id in ["a", "b"] {
                    if now % 5 == 0 {
                        leases.handle(heartbeat(id), at(now));
                    }
                }
                for id in condemned(&mut leases, at(now)) {
                    prop_assert_eq!(id.as_str(), "dead");
                }
            }
        }
    }
}
