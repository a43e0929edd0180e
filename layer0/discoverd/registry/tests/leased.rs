//! The registry with its leases: what a server that leads, loses the lead or stands still lets expire.

use std::collections::BTreeMap;
use std::time::Duration;

use discoverd_registry::{
    Command, Election, Lapsed, LeaseConfig, Leased, Look, Registration, Registry,
};
use kit_clock::Mono;

const LONGEST: Duration = Duration::from_secs(1);

/// A server with one instance, registered at second zero, whose clock and driver are this test's.
struct Driver {
    leased: Leased,
    now: Duration,
    looked: Duration,
}

impl Driver {
    fn new() -> Self {
        let leased = Leased::new(Registry::new(), LeaseConfig::default());
        let mut driver = Self { leased, now: Duration::ZERO, looked: Duration::ZERO };
        let (service, id) = ("web".into(), "a".into());
        let add = Command::AddService { service, election: Election::Oldest };
        assert!(driver.leased.apply(add, driver.mono()).0.is_ok());
        let service = "web".into();
        let put = Command::AddInstance { service, id, registration: registration() };
        assert!(driver.leased.apply(put, driver.mono()).0.is_ok());
        driver
    }

    fn mono(&self) -> Mono {
        Mono::from_origin(self.now)
    }

    fn look(&mut self, term: u64) -> Vec<Lapsed> {
        let since_look = self.now - self.looked;
        self.looked = self.now;
        let look = Look { leads: Some(term), since_look, since_quorum: Some(Duration::ZERO) };
        let lapsed = self.leased.look(look, self.mono());
        self.leased.check_invariants();
        lapsed
    }

    /// Looks as often as it is told to, for as long as nothing is to expire and until that second.
    fn run(&mut self, term: u64, until: u64) -> Vec<Lapsed> {
        let until = Duration::from_secs(until);
        while self.now < until {
            let pause = self.leased.next_look(LONGEST, self.mono());
            self.now = (self.now + pause).min(until);
            let lapsed = self.look(term);
            if !lapsed.is_empty() {
                return lapsed;
            }
        }
        Vec::new()
    }

    fn heartbeat(&mut self) -> bool {
        self.leased.heartbeat("web", "a", &registration(), self.mono())
    }
}

fn registration() -> Registration {
    Registration { addr: "10.0.0.1:80".to_owned(), proto: "tcp".to_owned(), meta: BTreeMap::new() }
}

#[test]
fn the_silent_expire_once_there_was_time_to_read() {
    let mut driver = Driver::new();
    assert_eq!(driver.run(1, 17), []);
    assert!(driver.heartbeat());
    let lapsed = driver.run(1, 40);
    assert_eq!(lapsed.len(), 1);
    let reading = LeaseConfig::default().reading();
    let over = Duration::from_secs(27);
    assert!(driver.now >= over + reading && driver.now <= over + 2 * reading, "{:?}", driver.now);
    assert!(!driver.heartbeat(), "from here on only the log says that it lives");
}

/// Found by simulation: who lost the lead and won it back between two looks had missed the heartbeats that
/// went elsewhere, and expired the living.
#[test]
fn a_leader_of_another_term_gives_everybody_the_grace_again() {
    let mut driver = Driver::new();
    assert_eq!(driver.run(1, 18), []);
    assert_eq!(driver.run(2, 38), [], "the second lead is young");
    assert_eq!(driver.run(2, 40).len(), 1);
}

/// Found by simulation: a leader that stood still too briefly to doubt looked at its leases before it read
/// the heartbeat that had come in time.
#[test]
fn a_heartbeat_that_waits_while_the_leader_stands_still_is_read_first() {
    let mut driver = Driver::new();
    assert_eq!(driver.run(1, 20), []);
    assert!(driver.heartbeat());
    assert_eq!(driver.run(1, 29), []);
    // It stands still from 29 to 31, and a heartbeat comes at 29.9: in time, for the lease ends at 30.
    driver.now = Duration::from_secs(31);
    assert_eq!(driver.look(1), [], "it has read nothing yet");
    assert!(driver.heartbeat());
    assert_eq!(driver.run(1, 40), []);
}

#[test]
fn a_leader_that_stood_still_for_long_gives_everybody_the_grace_again() {
    let mut driver = Driver::new();
    assert_eq!(driver.run(1, 20), []);
    assert!(driver.heartbeat());
    assert_eq!(driver.run(1, 25), []);
    driver.now = Duration::from_secs(33);
    assert_eq!(driver.look(1), []);
    assert_eq!(driver.run(1, 52), []);
    assert_eq!(driver.run(1, 54).len(), 1);
}

/// A batch that was cut off follows at once, not after another time of reading.
#[test]
fn the_second_batch_does_not_wait() {
    let config = LeaseConfig { batch: 1, ..LeaseConfig::default() };
    let mut driver = Driver { leased: Leased::new(Registry::new(), config), ..Driver::new() };
    let service = || "web".into();
    let add = Command::AddService { service: service(), election: Election::Oldest };
    assert!(driver.leased.apply(add, driver.mono()).0.is_ok());
    for id in ["a", "b"] {
        let (id, registration) = (id.into(), registration());
        let put = Command::AddInstance { service: service(), id, registration };
        assert!(driver.leased.apply(put, driver.mono()).0.is_ok());
    }
    let first = driver.run(1, 30);
    let at = driver.now;
    let second = driver.run(1, 30);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(driver.now - at < config.reading(), "{:?}", driver.now - at);
}
