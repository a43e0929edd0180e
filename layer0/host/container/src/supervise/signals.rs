//! Telling the program things, and telling others about its services: whoever ends a job takes it
//! out of discoverd first.

use std::time::Instant;

use super::{DEREGISTER, Supervisor, log};
use crate::init::ToInit;
use crate::protocol::{Notice, State};
use crate::services::ServiceEvent;

impl Supervisor {
    /// Takes the services out first, so that nobody is sent to a program that is ending.
    pub(super) fn signal_after_deregistering(&mut self, signal: i32) {
        let now = Instant::now();
        self.stop_services("the job was told to end", now);
        self.held_signal = Some((signal, now + DEREGISTER));
    }

    /// Sends a held signal when its time has come.
    pub(super) fn deliver_held_signal(&mut self, now: Instant) {
        if let Some((signal, latest)) = self.held_signal
            && (self.services.is_quiet() || now >= latest)
            && !self.is_starting()
        {
            self.held_signal = None;
            if self.send_signal(signal).is_err() && self.state < State::Running {
                // Told to end before the program ran: there is nobody to hand the signal to.
                self.kill_all();
            }
        }
    }

    /// The program is about to run: init will say so, or that it cannot.
    pub(super) fn is_starting(&self) -> bool {
        self.resumed
            && self.state == State::Ready
            && self.init_ended.is_none()
            && self.failure.is_none()
    }

    /// Signals the program now.
    pub(super) fn send_signal(&mut self, signal: i32) -> Result<(), String> {
        let Some(container) = self.container.as_ref().filter(|_| self.state.can_signal()) else {
            return Err("the job is not running".to_owned());
        };
        if signal == libc::SIGKILL {
            // By the kernel rather than by a process that may be frozen or out of memory.
            return container.cgroup.kill().map_err(|error| error.to_string());
        }
        container.channel.send_now(&ToInit::Signal { signal }).map_err(|error| error.to_string())
    }

    /// Kills everybody of the job.
    pub(super) fn kill_all(&self) {
        if let Some(container) = &self.container {
            // Gone already is fine.
            let _ = container.cgroup.kill();
        }
    }

    /// Lets checks and registrations go on.
    pub(super) fn advance_services(&mut self, now: Instant) {
        let mut events = Vec::new();
        self.services.advance(now, &mut events);
        self.take_service_events(events);
    }

    /// Takes all services out, for good.
    pub(super) fn stop_services(&mut self, reason: &str, now: Instant) {
        let mut events = Vec::new();
        self.services.stop(reason, now, &mut events);
        self.take_service_events(events);
    }

    fn take_service_events(&mut self, events: Vec<ServiceEvent>) {
        for event in events {
            match event {
                ServiceEvent::Up { service, addr } => {
                    self.clients.notify_all(&Notice::ServiceUp { service, addr });
                }
                ServiceEvent::Down { service, addr, reason } => {
                    log(
                        &mut self.spools[2],
                        "info",
                        &format!("service {service} is down: {reason}"),
                    );
                    self.clients.notify_all(&Notice::ServiceDown { service, addr, reason });
                }
                ServiceEvent::AskHttps(check) => {
                    // The last result holds while nobody is there to ask.
                    self.clients.notify_one(&Notice::HttpsCheck(check));
                }
                ServiceEvent::Kill { service } => {
                    let line = format!("killing the job: service {service} is down");
                    log(&mut self.spools[2], "error", &line);
                    let _ = self.send_signal(libc::SIGKILL);
                }
                ServiceEvent::Log(line) => log(&mut self.spools[2], "warn", &line),
            }
        }
    }
}
