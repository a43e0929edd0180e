//! Keeping one instance registered in discoverd: PUT the service when asked to, PUT the instance
//! every few seconds, DELETE it at the end (spec/discoverd.md §6 and §9). Discoverd being away only
//! means trying again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use kit_backoff::Backoff;
use md5::{Digest, Md5};
use rustix::event::PollFlags;

use super::ServiceEvent;
use super::exchange::{Answer, Exchange};
use crate::protocol::ServiceSpec;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time between heartbeats; up to two fifths less at random. Discoverd's TTL is 10 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(400);
const RETRY_MOST: Duration = Duration::from_secs(2);
const MAX_REDIRECTS: u32 = 10;
/// Tries of taking an instance out, which expires by itself when all fail.
const REMOVE_TRIES: u32 = 5;

/// The servers to talk to.
#[derive(Debug, Default)]
pub(super) struct Discoverd {
    servers: Vec<SocketAddr>,
    current: usize,
}

impl Discoverd {
    /// A comma list of URLs with optional scheme; names other than `localhost` are not resolved,
    /// because resolving would block and DNS is discoverd's own job.
    pub(super) fn parse(urls: &str) -> Self {
        let servers = urls.split(',').filter_map(|url| {
            let url = url.trim();
            let url = url.strip_prefix("http://").unwrap_or(url);
            let host = url.split('/').next().unwrap_or(url);
            host.replace("localhost", "127.0.0.1").parse().ok()
        });
        Self { servers: servers.collect(), current: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    fn server(&self) -> Option<SocketAddr> {
        self.servers.get(self.current % self.servers.len().max(1)).copied()
    }

    fn try_next(&mut self) {
        self.current = self.current.wrapping_add(1);
    }
}

/// Where a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The service has to be made first.
    CreateService,
    /// The instance has to be written, again and again.
    PutInstance,
    /// The instance has to be taken out.
    Remove,
    /// Nothing to do.
    Idle,
}

/// One service's registration.
#[derive(Debug)]
pub(super) struct Registration {
    spec: ServiceSpec,
    instance_id: String,
    instance: Vec<u8>,
    step: Step,
    registered: bool,
    due: Instant,
    running: Option<Running>,
    backoff: Backoff,
    jitter: Backoff,
    remove_tries: u32,
}

#[derive(Debug)]
struct Running {
    exchange: Exchange,
    step: Step,
    redirects: u32,
}

impl Registration {
    pub(super) fn new(spec: &ServiceSpec, meta: &BTreeMap<String, String>, now: Instant) -> Self {
        let instance_id = instance_id(&spec.proto, &spec.addr);
        let mut instance = serde_json::json!({
            "id": &instance_id, "addr": &spec.addr, "proto": &spec.proto,
        });
        if !meta.is_empty() {
            instance["meta"] = serde_json::json!(meta);
        }
        let seed = seed(&instance_id);
        Self {
            spec: spec.clone(),
            instance_id,
            instance: instance.to_string().into_bytes(),
            step: Step::Idle,
            registered: false,
            due: now,
            running: None,
            backoff: Backoff::new(RETRY_FIRST, RETRY_MOST, seed),
            jitter: Backoff::new(HEARTBEAT * 4 / 5, HEARTBEAT * 4 / 5, seed),
            remove_tries: 0,
        }
    }

    /// Registers and keeps it so.
    pub(super) fn want_up(&mut self, now: Instant) {
        if !self.is_wanted() {
            self.step = self.first_step();
            self.due = now;
        }
    }

    /// Takes it out. False when it was not wanted up anyway.
    pub(super) fn want_down(&mut self, now: Instant) -> bool {
        if !self.is_wanted() {
            return false;
        }
        // A PUT that is under way may still arrive: the DELETE follows it in any case.
        let nothing_sent = !self.registered && self.running.is_none();
        self.step = if nothing_sent { Step::Idle } else { Step::Remove };
        self.remove_tries = 0;
        self.due = now;
        true
    }

    /// Begins anew at other servers.
    pub(super) fn restart(&mut self, now: Instant) {
        self.running = None;
        self.due = now;
        if self.is_wanted() {
            self.step = self.first_step();
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        match self.step {
            Step::CreateService | Step::PutInstance => true,
            Step::Remove | Step::Idle => false,
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered && self.is_wanted()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.step == Step::Idle
    }

    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.running.as_ref().map(|running| running.exchange.interest())
    }

    pub(super) fn next_timeout(&self, has_discoverd: bool) -> Option<Instant> {
        match &self.running {
            Some(running) => Some(running.exchange.deadline()),
            None => (self.step != Step::Idle && has_discoverd).then_some(self.due),
        }
    }

    /// Goes on until it has to wait for an answer or for time.
    pub(super) fn advance(
        &mut self,
        discoverd: &mut Discoverd,
        now: Instant,
        events: &mut Vec<ServiceEvent>,
    ) {
        if discoverd.is_empty() {
            // Nobody to take it out of.
            if self.step == Step::Remove {
                self.step = Step::Idle;
            }
            return;
        }
        loop {
            if self.running.is_none() && self.step != Step::Idle && now >= self.due {
                let Some(server) = discoverd.server() else { return };
                if !self.send(server, None, 0, now) {
                    self.retry_later(discoverd, now);
                }
            }
            let over = self.running.as_mut().and_then(|running| running.exchange.advance(now));
            let Some(over) = over else { return };
            let Some(running) = self.running.take() else { return };
            match over {
                Ok(answer) => self.take_answer(&running, &answer, discoverd, now, events),
                Err(_) => self.retry_later(discoverd, now),
            }
        }
    }

    fn take_answer(
        &mut self,
        running: &Running,
        answer: &Answer,
        discoverd: &mut Discoverd,
        now: Instant,
        events: &mut Vec<ServiceEvent>,
    ) {
        let location = answer.location.as_deref();
        match (answer.status, running.step) {
            (307, _) if running.redirects < MAX_REDIRECTS => {
                let sent = location.and_then(split_url).is_some_and(|(server, path)| {
                    self.step == running.step
                        && self.send(server, Some(path), running.redirects + 1, now)
                });
                if !sent {
                    self.retry_later(discoverd, now);
                }
            }
            (200 | 409, Step::CreateService) => {
                self.backoff.reset();
                self.go_on(Step::CreateService, Step::PutInstance, now);
            }
            (200, Step::PutInstance) => self.acknowledged(now, events),
            (404, Step::PutInstance) if self.spec.create => {
                self.go_on(Step::PutInstance, Step::CreateService, now);
                self.due = now + self.backoff.next_delay();
            }
            (200 | 404, Step::Remove) => {
                self.registered = false;
                self.go_on(Step::Remove, Step::Idle, now);
            }
            (status, step) => {
                if status < 500 && self.backoff.attempts() == 0 {
                    let said = String::from_utf8_lossy(&answer.body);
                    events.push(ServiceEvent::Log(format!(
                        "discoverd answered {status} to {step:?} of service {}: {}",
                        self.spec.name,
                        said.trim()
                    )));
                }
                self.retry_later(discoverd, now);
            }
        }
    }

    /// Moves on, unless the wish has changed meanwhile.
    fn go_on(&mut self, from: Step, to: Step, now: Instant) {
        if self.step == from {
            self.step = to;
            self.due = now;
        }
    }

    fn acknowledged(&mut self, now: Instant, events: &mut Vec<ServiceEvent>) {
        self.backoff.reset();
        let is_new = !self.registered;
        self.registered = true;
        if self.step != Step::PutInstance {
            return;
        }
        // 3 to 5 seconds: one fifth, and a random half to whole of the rest.
        self.due = now + HEARTBEAT / 5 + self.jitter.next_delay();
        if is_new {
            events.push(ServiceEvent::Up {
                service: self.spec.name.clone(),
                addr: self.spec.addr.clone(),
            });
        }
    }

    fn retry_later(&mut self, discoverd: &mut Discoverd, now: Instant) {
        discoverd.try_next();
        self.due = now + self.backoff.next_delay();
        if self.step == Step::Remove {
            self.remove_tries += 1;
            if self.remove_tries >= REMOVE_TRIES {
                self.registered = false;
                self.step = Step::Idle;
            }
        }
    }

    fn first_step(&self) -> Step {
        if self.spec.create { Step::CreateService } else { Step::PutInstance }
    }

    fn send(
        &mut self,
        server: SocketAddr,
        path: Option<String>,
        redirects: u32,
        now: Instant,
    ) -> bool {
        let name = &self.spec.name;
        let instance = || format!("/services/{name}/instances/{}", self.instance_id);
        let (method, own_path, body): (_, _, &[u8]) = match self.step {
            Step::CreateService => {
                ("PUT", format!("/services/{name}"), br#"{"leader_type":"oldest"}"#)
            }
            Step::PutInstance => ("PUT", instance(), &self.instance),
            Step::Remove => ("DELETE", instance(), b""),
            Step::Idle => return true,
        };
        let path = path.unwrap_or(own_path);
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n\
             Accept: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let exchange = Exchange::start(server, request, 1024, now + REQUEST_TIMEOUT);
        self.running =
            exchange.ok().map(|exchange| Running { exchange, step: self.step, redirects });
        self.running.is_some()
    }
}

/// Lower hex MD5 of `proto-addr`, as discoverd demands.
fn instance_id(proto: &str, addr: &str) -> String {
    let sum = Md5::digest(format!("{proto}-{addr}"));
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Jitter that differs between instances and between runs.
fn seed(instance_id: &str) -> u64 {
    let digits = instance_id.get(..15).and_then(|text| u64::from_str_radix(text, 16).ok());
    digits.unwrap_or(0) ^ (u64::from(std::process::id()) << 20)
}

fn split_url(url: &str) -> Option<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/')?;
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    Some((host.parse().ok()?, format!("/{path}"))).filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_what_discoverd_expects() {
        // The worked example of a host's own instance, spec/host.md §15.
        assert_eq!(instance_id("tcp", "192.0.2.1:1113"), "064e7fa5bf5dc48faf91cddd43bf656e");
    }

    #[test]
    fn discoverd_urls_come_with_and_without_scheme() {
        let servers =
            Discoverd::parse("http://10.0.0.1:1111,10.0.0.2:1111, http://localhost:7/,none")
                .servers;
        let want: Vec<SocketAddr> = ["10.0.0.1:1111", "10.0.0.2:1111", "127.0.0.1:7"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(servers, want);
        assert!(Discoverd::parse("none").is_empty());
    }

    #[test]
    fn redirects_stay_plain_http_to_an_address() {
        let (server, path) = split_url("http://10.0.0.3:1111/services/abc").unwrap();
        assert_eq!(
            (server.to_string().as_str(), path.as_str()),
            ("10.0.0.3:1111", "/services/abc")
        );
        assert!(split_url("https://10.0.0.3:1111/x").is_none());
    }
}
