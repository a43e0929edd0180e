//! What ends on a host and comes back: its daemon, its power, its time.

use std::time::Duration;

use host_job::{Event as Happened, Ledger};
use kit_ids::JobId;

use super::host::{capacity, reservation};
use super::{Event, World};

impl World {
    pub(super) fn kill_daemon(&mut self, number: usize) {
        let back = self.stage.random.millis(100, 4000);
        let host = &mut self.hosts[number];
        if host.up {
            host.up = false;
            host.boot += 1;
            host.waiting.clear();
            let boot = host.boot;
            self.stage.note(format_args!("daemon of host {number} killed"));
            self.stage.after(back, Event::DaemonBack { host: number, boot });
        }
    }

    pub(super) fn power_cut(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        (host.up, host.powered, host.frozen) = (false, false, false);
        host.boot += 1;
        host.waiting.clear();
        host.links.clear();
        host.disk.crash(&mut self.stage.random);
        host.addresses_on_disk.crash(&mut self.stage.random);
        for program in std::mem::take(&mut host.programs).into_values() {
            self.had_address(&program);
        }
    }

    pub(super) fn power_back(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if !std::mem::replace(&mut host.powered, true) {
            let boot = host.boot;
            self.daemon_back(number, boot);
        }
    }

    pub(super) fn wake(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.frozen = false;
        for event in std::mem::take(&mut host.waiting) {
            self.stage.after(Duration::ZERO, event);
        }
    }

    /// A new daemon adopts what runs, notes what ended meanwhile, and starts again what is its own.
    pub(super) fn daemon_back(&mut self, number: usize, boot: u64) {
        let host = &mut self.hosts[number];
        if host.up || host.boot != boot || !host.powered {
            return;
        }
        self.stage.note(format_args!("daemon of host {number} is back"));
        host.up = true;
        host.ledger = Ledger::new(capacity());
        self.read_addresses(number);
        let host = &mut self.hosts[number];
        let jobs = host.jobs();
        for (job, record) in jobs.iter().filter(|(_, record)| !record.life.status.has_ended()) {
            host.ledger.adopt(job, reservation(&record.process));
        }
        for (job, record) in &jobs {
            let runs = self.hosts[number].programs.contains_key(job);
            if record.life.status.has_ended() {
                if !self.hosts[number].has_successor(job) {
                    self.decide(number, job);
                }
            } else if runs {
                self.adopt(number, job);
            } else {
                let reason = "its end was seen by nobody".to_owned();
                self.saw_end(number, job, Happened::Failed { reason });
            }
        }
        let unknown = self.hosts[number].programs.keys().find(|job| !jobs.contains_key(*job));
        assert_eq!(unknown, None, "a program runs that its host does not know");
    }

    /// A program that outlived its daemon; an order to stop it is carried out again.
    fn adopt(&mut self, number: usize, job: &JobId) {
        let host = &mut self.hosts[number];
        let wall = host.clock.wall(self.stage.now());
        host.tell(job, Happened::Started, wall);
        let stops = host.disk.read().get(job).is_some_and(|record| record.life.stop_requested);
        let program = host.programs.get(job).map(|program| program.number);
        if let Some(program) = program.filter(|_| stops) {
            let takes = self.stage.random.millis(50, 9000);
            self.stage.after(takes, Event::ProgramEnds { host: number, program });
        }
    }
}
