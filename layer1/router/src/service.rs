//! A routed service at run time: its backends with their counters and idle connections, and how one
//! request gets hold of one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use routes::{Choice, InFlight};
use tokio::sync::Notify;

use crate::pool::{Pool, Tick};

/// For so many ticks a backend that could not be dialled is tried after all others: its host may be gone
/// for longer than discovery needs to say so, and each dial into nothing costs a request a second.
const AVOIDED: Tick = 5;

/// A discovery service that routes lead to. Routes of one service share it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    backends: RwLock<Arc<Backends>>,
}

/// The backends that get requests now.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    pub(crate) all: Vec<Arc<Backend>>,
    /// Which of them leads, if it is among them.
    pub(crate) leader: Option<usize>,
}

/// One instance of a service.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) identity: routes::Backend,
    /// The address, if it is a literal one; a name is resolved at each dial.
    pub(crate) socket: Option<SocketAddr>,
    /// The value of its sticky cookie.
    pub(crate) token: String,
    pub(crate) in_flight: InFlight,
    /// Upgraded connections: they count as load, but nobody waits for their end.
    tunnels: AtomicU64,
    pub(crate) pool: Pool,
    /// Tried after all others until then.
    avoided_until: AtomicU64,
    /// Woken when the last request of a draining backend has ended.
    drained: Arc<Notify>,
}

impl Service {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), backends: RwLock::default() }
    }

    /// The backends as they are now.
    pub(crate) fn backends(&self) -> Arc<Backends> {
        self.backends.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_backends(&self, backends: Backends) {
        *self.backends.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(backends);
    }
}

impl Backends {
    /// Those a route may use: all, or the leader alone.
    pub(crate) fn eligible(&self, leader_only: bool) -> &[Arc<Backend>] {
        match (leader_only, self.leader) {
            (false, _) => &self.all,
            (true, Some(index)) => self.all.get(index..=index).unwrap_or_default(),
            (true, None) => &[],
        }
    }

    /// Those a route may use in the order in which one connection tries them: the sticky one first, the
    /// others in random order, those that should be avoided last.
    pub(crate) fn in_turn(
        &self,
        leader_only: bool,
        token: Option<&str>,
        seed: u64,
        now: Tick,
    ) -> Vec<Arc<Backend>> {
        let eligible = self.eligible(leader_only);
        let sticky = token.and_then(|token| eligible.iter().position(|b| b.token == token));
        let order = routes::shuffled(eligible.len(), sticky, seed).into_iter();
        let mut order: Vec<_> = order.map(|index| eligible[index].clone()).collect();
        order.sort_by_key(|backend| backend.is_avoided(now));
        order
    }
}

impl Backend {
    pub(crate) fn new(
        identity: routes::Backend,
        token: String,
        pool: Pool,
        drained: Arc<Notify>,
    ) -> Self {
        let socket = identity.addr.parse().ok();
        let (in_flight, tunnels) = (InFlight::default(), AtomicU64::new(0));
        let avoided_until = AtomicU64::new(0);
        Self { identity, socket, token, in_flight, tunnels, pool, avoided_until, drained }
    }

    /// It could not be dialled.
    pub(crate) fn avoid(&self, now: Tick) {
        self.avoided_until.store(now + AVOIDED, Ordering::Relaxed);
    }

    fn is_avoided(&self, now: Tick) -> bool {
        self.avoided_until.load(Ordering::Relaxed) > now
    }

    fn load(&self) -> u64 {
        self.in_flight.count() + self.tunnels.load(Ordering::Relaxed)
    }
}

/// A request's search for a backend: each is tried at most once, a few at most.
#[derive(Debug)]
pub(crate) struct Search {
    service: Arc<Service>,
    leader_only: bool,
    backends: Arc<Backends>,
    choice: Choice,
    seed: u64,
    now: Tick,
    /// How often the list was read anew because a chosen backend had begun to drain.
    renewals: u8,
}

/// A list that is replaced faster than this many times within one request is not chased further.
const MAX_RENEWALS: u8 = 8;

impl Search {
    pub(crate) fn new(service: &Arc<Service>, leader_only: bool, seed: u64, now: Tick) -> Self {
        let (choice, backends) = (Choice::new(seed), service.backends());
        Self { service: service.clone(), leader_only, backends, choice, seed, now, renewals: 0 }
    }

    /// The next backend to try: the one of the sticky token first.
    pub(crate) fn next(&mut self, token: Option<&str>) -> Option<Lease> {
        loop {
            let eligible = self.backends.eligible(self.leader_only);
            let sticky = token.and_then(|token| eligible.iter().position(|b| b.token == token));
            let load = |index: usize| eligible[index].load();
            let avoided = |index: usize| eligible[index].is_avoided(self.now);
            let index = self.choice.next(eligible.len(), sticky, avoided, load)?;
            if let Some(lease) = Lease::take(&eligible[index]) {
                return Some(lease);
            }
            // It went down since the list was read: the new list may have others.
            self.renewals += 1;
            if self.renewals > MAX_RENEWALS {
                return None;
            }
            self.backends = self.service.backends();
            self.choice = Choice::new(self.seed.wrapping_add(u64::from(self.renewals)));
        }
    }
}

/// A request in flight at a backend, from the choice to the last byte of the response.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) backend: Arc<Backend>,
}

impl Lease {
    /// None when the backend is draining.
    pub(crate) fn take(backend: &Arc<Backend>) -> Option<Self> {
        backend.in_flight.enter().then(|| Self { backend: backend.clone() })
    }

    /// The request became a tunnel: it goes on as load only.
    pub(crate) fn into_tunnel(self) -> TunnelLease {
        self.backend.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelLease { backend: self.backend.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.backend.in_flight.leave() {
            self.backend.drained.notify_one();
        }
    }
}

/// An upgraded or TCP connection to a backend.
#[derive(Debug)]
pub(crate) struct TunnelLease {
    backend: Arc<Backend>,
}

impl Drop for TunnelLease {
    fn drop(&mut self) {
        self.backend.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(addr: &str) -> Arc<Backend> {
        let identity =
            routes::Backend { addr: addr.to_owned(), app: String::new(), job: String::new() };
        let (pool, drained) = (Pool::new(1, 1), Arc::new(Notify::new()));
        Arc::new(Backend::new(identity, addr.to_owned(), pool, drained))
    }

    fn list(all: &[&Arc<Backend>], leader: Option<usize>) -> Backends {
        Backends { all: all.iter().map(|one| (*one).clone()).collect(), leader }
    }

    #[test]
    fn a_search_whose_backend_began_to_drain_finds_its_successor() {
        let (old, new) = (backend("10.0.0.1:80"), backend("10.0.0.2:80"));
        let service = Arc::new(Service::new("web"));
        service.set_backends(list(&[&old], None));
        let mut search = Search::new(&service, false, 1, 0);
        service.set_backends(list(&[&new], None));
        assert!(old.in_flight.drain());
        let lease = search.next(None).unwrap();
        assert!(Arc::ptr_eq(&lease.backend, &new));
        assert_eq!((old.in_flight.count(), new.in_flight.count()), (0, 1));
        drop(lease);
        assert_eq!(new.in_flight.count(), 0);
        assert!(search.next(None).is_none(), "each is tried once");
    }

    #[test]
    fn a_backend_that_could_not_be_dialled_comes_after_all_others_for_a_while() {
        let all: Vec<_> = (1..=9).map(|n| backend(&format!("10.0.0.{n}:80"))).collect();
        let service = Arc::new(Service::new("web"));
        service.set_backends(list(&all.iter().collect::<Vec<_>>(), Some(0)));
        for lost in &all[..6] {
            lost.avoid(10);
        }
        let is_lost = |lease: &Lease| all[..6].iter().any(|one| Arc::ptr_eq(one, &lease.backend));
        for seed in 0..50 {
            let mut search = Search::new(&service, false, seed, 11);
            let found = [(); 4].map(|()| search.next(Some("10.0.0.1:80")).unwrap());
            assert_eq!(found.each_ref().map(is_lost), [false, false, false, true]);
            let turn = service.backends().in_turn(false, Some("10.0.0.1:80"), seed, 11);
            assert_eq!(turn.len(), all.len());
            assert!(turn[..3].iter().all(|one| all[6..].iter().any(|good| Arc::ptr_eq(one, good))));
            let led = Search::new(&service, true, seed, 11).next(None).unwrap();
            assert!(Arc::ptr_eq(&led.backend, &all[0]), "better than none");
            let later = Search::new(&service, false, seed, 15).next(Some("10.0.0.1:80")).unwrap();
            assert!(Arc::ptr_eq(&later.backend, &all[0]));
        }
    }

    #[test]
    fn a_sticky_token_and_a_leader_narrow_the_choice() {
        let (a, b) = (backend("10.0.0.1:80"), backend("10.0.0.2:80"));
        let service = Arc::new(Service::new("web"));
        service.set_backends(list(&[&a, &b], Some(1)));
        for seed in 0..20 {
            let sticky = Search::new(&service, false, seed, 0).next(Some("10.0.0.1:80")).unwrap();
            assert!(Arc::ptr_eq(&sticky.backend, &a));
            let led = Search::new(&service, true, seed, 0).next(Some("10.0.0.1:80")).unwrap();
            assert!(Arc::ptr_eq(&led.backend, &b), "a leader route has no other backend");
        }
        let tunnel = Lease::take(&a).unwrap().into_tunnel();
        assert_eq!((a.load(), a.in_flight.count()), (1, 0), "a tunnel is load, not in flight");
        drop(tunnel);
        assert_eq!(a.load(), 0);
    }
}
