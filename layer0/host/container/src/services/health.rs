//! Health checks (spec/host.md §5, spec/discoverd.md §10): [`Monitor`] decides from results,
//! [`Checker`] gets the results.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::ServiceEvent;
use super::exchange::{Answer, Exchange};
use crate::protocol::{CheckKind, HealthCheck, HttpsCheck};

/// Between checks until the first success.
const START_INTERVAL: Duration = Duration::from_millis(100);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a body is searched for the expected text.
const BODY_SEARCHED: usize = 5120;

/// A change worth acting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    Down,
}

/// Status from results: the first success counts at once, later changes need `threshold` in a row.
#[derive(Debug)]
pub(super) struct Monitor {
    status: Option<Health>,
    threshold: u32,
    against: u32,
}

impl Monitor {
    pub(super) fn new(threshold: u32) -> Self {
        Self { status: None, threshold: threshold.max(1), against: 0 }
    }

    /// Takes a result; a change of status comes back.
    pub(super) fn result(&mut self, healthy: bool) -> Option<Health> {
        let seen = if healthy { Health::Up } else { Health::Down };
        match self.status {
            None if healthy => self.change(Health::Up),
            None => None,
            Some(status) if status == seen => {
                self.against = 0;
                None
            }
            Some(_) => {
                self.against += 1;
                if self.against >= self.threshold { self.change(seen) } else { None }
            }
        }
    }

    fn change(&mut self, to: Health) -> Option<Health> {
        self.status = Some(to);
        self.against = 0;
        Some(to)
    }
}

/// Runs one service's check again and again.
#[derive(Debug)]
pub(super) struct Checker {
    number: u32,
    addr: String,
    check: HealthCheck,
    monitor: Monitor,
    kill_after: Instant,
    next: Instant,
    running: Option<Exchange>,
    https_answer: Option<bool>,
}

impl Checker {
    pub(super) fn new(number: u32, addr: &str, check: &HealthCheck, now: Instant) -> Self {
        Self {
            number,
            addr: addr.to_owned(),
            monitor: Monitor::new(check.threshold),
            kill_after: now + check.start_timeout,
            check: check.clone(),
            next: now,
            running: None,
            https_answer: None,
        }
    }

    /// Begins and finishes checks as far as time and answers allow.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        events: &mut Vec<ServiceEvent>,
    ) -> Option<Health> {
        if let Some(healthy) = self.https_answer.take() {
            return self.take_result(healthy, now);
        }
        if self.running.is_none() && now >= self.next {
            self.next = now + self.interval();
            let begun = self.begin(now, events);
            if begun == Err(()) {
                return self.take_result(false, now);
            }
        }
        let over = self.running.as_mut()?.advance(now)?;
        self.running = None;
        let healthy = over.is_ok_and(|answer| self.is_expected(&answer));
        self.take_result(healthy, now)
    }

    /// Whether the job has to be killed, because it is not up when it should be.
    pub(super) fn must_kill(&self, now: Instant) -> bool {
        self.check.kill_down && now >= self.kill_after && self.monitor.status != Some(Health::Up)
    }

    pub(super) fn https_result(&mut self, healthy: bool, now: Instant) {
        self.https_answer = Some(healthy);
        self.next = self.next.max(now);
    }

    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.running.as_ref().map(Exchange::interest)
    }

    pub(super) fn next_timeout(&self) -> Instant {
        let next = self.running.as_ref().map_or(self.next, Exchange::deadline);
        // Only the first passing of this point can matter; afterwards changes of status do.
        if self.check.kill_down && self.monitor.status.is_none() {
            next.min(self.kill_after)
        } else {
            next
        }
    }

    fn take_result(&mut self, healthy: bool, now: Instant) -> Option<Health> {
        let change = self.monitor.result(healthy);
        self.next = now + self.interval();
        change
    }

    fn interval(&self) -> Duration {
        if self.monitor.status.is_none() { START_INTERVAL } else { self.check.interval }
    }

    fn begin(&mut self, now: Instant, events: &mut Vec<ServiceEvent>) -> Result<(), ()> {
        let request = match self.check.kind {
            CheckKind::Tcp => Vec::new(),
            CheckKind::Http => self.request(),
            CheckKind::Https => {
                events.push(ServiceEvent::AskHttps(self.question()));
                return Ok(());
            }
        };
        let addr: SocketAddr = self.addr.parse().map_err(drop)?;
        let deadline = now + CHECK_TIMEOUT;
        self.running = Some(Exchange::start(addr, request, BODY_SEARCHED, deadline).map_err(drop)?);
        Ok(())
    }

    fn request(&self) -> Vec<u8> {
        let host = if self.check.host.is_empty() { &self.addr } else { &self.check.host };
        let path = if self.check.path.is_empty() { "/" } else { &self.check.path };
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        text.into_bytes()
    }

    fn question(&self) -> HttpsCheck {
        HttpsCheck {
            check: self.number,
            addr: self.addr.clone(),
            host: self.check.host.clone(),
            path: self.check.path.clone(),
            expect_status: self.check.expect_status,
            expect_text: self.check.expect_text.clone(),
            timeout: CHECK_TIMEOUT,
        }
    }

    fn is_expected(&self, answer: &Answer) -> bool {
        if self.check.kind == CheckKind::Tcp {
            return true;
        }
        let body = &answer.body[..answer.body.len().min(BODY_SEARCHED)];
        let text = self.check.expect_text.as_bytes();
        let has_text = text.is_empty() || body.windows(text.len()).any(|window| window == text);
        answer.status == self.check.expect_status && has_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_need_a_row_of_results_but_the_first_success_counts() {
        for (results, want) in [
            ("- -", "  "),
            ("-+", " U"),
            ("+--", "U D"),
            ("+-+--", "U   D"),
            ("+--+-++", "U D   U"),
        ] {
            let mut monitor = Monitor::new(2);
            let changes: String = results
                .chars()
                .filter(|c| *c != ' ')
                .map(|c| match monitor.result(c == '+') {
                    Some(Health::Up) => 'U',
                    Some(Health::Down) => 'D',
                    None => ' ',
                })
                .collect();
            assert_eq!(changes, want, "{results}");
        }
    }

    #[test]
    fn a_job_that_never_comes_up_is_killed_after_its_start_time() {
        let now = Instant::now();
        let check = HealthCheck { kill_down: true, ..HealthCheck::new(CheckKind::Tcp) };
        let checker = Checker::new(0, "127.0.0.1:1", &check, now);
        assert!(!checker.must_kill(now + Duration::from_secs(9)));
        assert!(checker.must_kill(now + Duration::from_secs(10)));
    }
}
