//! A job's services: health checks decide whether one is up, registrations tell discoverd.
//!
//! All of it runs in the supervisor, in the host's network namespace, without blocking: whoever
//! drives it polls [`Services::interest`] until [`Services::next_timeout`] and then calls
//! [`Services::advance`].

mod exchange;
mod health;
mod register;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;

use crate::protocol::{HttpsCheck, ServiceReport, ServiceSpec};
use health::{Checker, Health};
use register::{Discoverd, Registration};

/// What the driver has to know or to do.
#[derive(Debug)]
pub(crate) enum ServiceEvent {
    /// Discoverd has taken it.
    Up { service: String, addr: String },
    /// It was taken out, or is about to be.
    Down { service: String, addr: String, reason: String },
    /// Ask a client to do this check.
    AskHttps(HttpsCheck),
    /// A check says that the job has to be killed.
    Kill { service: String },
    /// A line for the init log.
    Log(String),
}

/// All services of one job.
#[derive(Debug, Default)]
pub(crate) struct Services {
    entries: Vec<Entry>,
    discoverd: Discoverd,
    running: bool,
}

#[derive(Debug)]
struct Entry {
    spec: ServiceSpec,
    checker: Option<Checker>,
    registration: Registration,
}

impl Services {
    pub(crate) fn new(
        specs: &[ServiceSpec],
        meta: &BTreeMap<String, String>,
        discoverd: Option<&str>,
        now: Instant,
    ) -> Self {
        let entries = specs.iter().map(|spec| Entry {
            spec: spec.clone(),
            checker: None,
            registration: Registration::new(spec, meta, now),
        });
        let mut services =
            Self { entries: entries.collect(), discoverd: Discoverd::default(), running: false };
        if let Some(urls) = discoverd {
            services.discoverd = Discoverd::parse(urls);
        }
        services
    }

    /// The program runs: checks begin, services without one are up.
    pub(crate) fn start(&mut self, now: Instant) {
        self.running = true;
        for (at, entry) in self.entries.iter_mut().enumerate() {
            match &entry.spec.check {
                None => entry.registration.want_up(now),
                Some(check) => {
                    entry.checker = Some(Checker::new(at as u32, &entry.spec.addr, check, now));
                }
            }
        }
    }

    /// Takes all services out, for good.
    pub(crate) fn stop(&mut self, reason: &str, now: Instant, events: &mut Vec<ServiceEvent>) {
        self.running = false;
        for entry in &mut self.entries {
            entry.checker = None;
            if entry.registration.want_down(now) {
                events.push(entry.down(reason));
            }
        }
    }

    /// Whether nothing is registered or about to be taken out.
    pub(crate) fn is_quiet(&self) -> bool {
        self.entries.iter().all(|entry| entry.registration.is_quiet())
    }

    /// Whether they were taken out for good and discoverd has not confirmed it yet.
    pub(crate) fn is_leaving(&self) -> bool {
        !self.running && !self.is_quiet()
    }

    /// Registers at these URLs from now on.
    pub(crate) fn set_discoverd(&mut self, urls: &str, now: Instant) {
        self.discoverd = Discoverd::parse(urls);
        self.entries.iter_mut().for_each(|entry| entry.registration.restart(now));
    }

    /// A client's answer to [`ServiceEvent::AskHttps`].
    pub(crate) fn https_result(&mut self, check: u32, healthy: bool, now: Instant) {
        let entry = self.entries.get_mut(check as usize);
        if let Some(checker) = entry.and_then(|entry| entry.checker.as_mut()) {
            checker.https_result(healthy, now);
        }
    }

    /// Goes on as far as possible without waiting.
    pub(crate) fn advance(&mut self, now: Instant, events: &mut Vec<ServiceEvent>) {
        for entry in &mut self.entries {
            entry.check(now, events);
            entry.registration.advance(&mut self.discoverd, now, events);
        }
    }

    /// Descriptors to wait for.
    pub(crate) fn interest(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let checks = self.entries.iter().filter_map(|entry| entry.checker.as_ref()?.interest());
        checks
            .chain(self.entries.iter().filter_map(|entry| entry.registration.interest()))
            .collect()
    }

    /// When to call [`advance`](Self::advance) at the latest.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let checks =
            self.entries.iter().filter_map(|entry| Some(entry.checker.as_ref()?.next_timeout()));
        let has_discoverd = !self.discoverd.is_empty();
        let registrations =
            self.entries.iter().filter_map(|entry| entry.registration.next_timeout(has_discoverd));
        checks.chain(registrations).min()
    }

    pub(crate) fn report(&self) -> Vec<ServiceReport> {
        let report = |entry: &Entry| ServiceReport {
            name: entry.spec.name.clone(),
            addr: entry.spec.addr.clone(),
            up: entry.registration.is_wanted(),
            registered: entry.registration.is_registered(),
        };
        self.entries.iter().map(report).collect()
    }
}

impl Entry {
    fn check(&mut self, now: Instant, events: &mut Vec<ServiceEvent>) {
        let Some(checker) = &mut self.checker else { return };
        match checker.advance(now, events) {
            Some(Health::Up) => self.registration.want_up(now),
            Some(Health::Down) => {
                self.registration.want_down(now);
                events.push(self.down("the health check fails"));
            }
            None => {}
        }
        if let Some(checker) = &self.checker
            && checker.must_kill(now)
        {
            events.push(ServiceEvent::Kill { service: self.spec.name.clone() });
            self.checker = None;
        }
    }

    fn down(&self, reason: &str) -> ServiceEvent {
        ServiceEvent::Down {
            service: self.spec.name.clone(),
            addr: self.spec.addr.clone(),
            reason: reason.to_owned(),
        }
    }
}
