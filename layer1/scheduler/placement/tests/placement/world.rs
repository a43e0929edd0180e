//! A small world to plan: builders, and [`World::apply`], which does at once what a plan says.

use std::time::Duration;

use kit_clock::{Mono, Wall};
use kit_ids::{AppId, HostId, ReleaseId};
use kit_units::{Bytes, Millicpu};
use placement::*;

pub(crate) fn uuid(n: u64) -> String {
    format!("{n:08x}-0000-4000-8000-{n:012x}")
}

pub(crate) fn key(app: u64, release: u64) -> FormationKey {
    let (app, release): (AppId, ReleaseId) = (
        uuid(app).parse().expect("part of a test world"),
        uuid(release).parse().expect("part of a test world"),
    );
    FormationKey { app, release }
}

pub(crate) fn host_id(name: &str) -> HostId {
    name.parse().expect("part of a test world")
}

pub(crate) fn at(seconds: u64) -> Mono {
    Mono::from_origin(Duration::from_secs(seconds))
}

pub(crate) fn mib(n: u64) -> Reservation {
    Reservation { memory: Bytes::mib(n), cpu: Millicpu(n) }
}

pub(crate) fn host(memory: u64, tags: &[(&str, &str)]) -> Host {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Host { tags, capacity: mib(memory), state: HostState::Serving }
}

pub(crate) fn process(count: u32) -> Process {
    Process { count, reservation: mib(100), ..Process::default() }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) now: Mono,
    pub(crate) made: u64,
}

impl World {
    pub(crate) fn with_hosts(names: &[&str]) -> Self {
        let mut world = Self::default();
        for name in names {
            world.snapshot.hosts.insert(host_id(name), host(10_000, &[]));
        }
        world
    }

    pub(crate) fn want(&mut self, key: &FormationKey, name: &str, process: Process) {
        let formation = self.snapshot.formations.entry(key.clone()).or_default();
        formation.processes.insert(name.into(), process);
    }

    pub(crate) fn job(
        &mut self,
        key: &FormationKey,
        name: &str,
        host: &str,
        state: JobState,
    ) -> Job {
        self.made += 1;
        let job = Job {
            id: format!("{host}-{}", uuid(self.made)).parse().expect("part of a test world"),
            host: host_id(host),
            formation: Some(key.clone()),
            process: name.into(),
            state,
            created: Wall::from_epoch(Duration::from_secs(self.made)),
            reservation: mib(100),
        };
        self.snapshot.jobs.push(job.clone());
        job
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.snapshot, &Policy::default(), self.now)
    }

    /// Does what the plan says: starts become jobs in `state`, stopped jobs are gone.
    pub(crate) fn apply(&mut self, plan: &Plan, state: JobState) {
        for step in &plan.steps {
            match step {
                Step::Stop(stop) => self.snapshot.jobs.retain(|job| job.id != stop.job),
                Step::Start(start) => self.started(start, state),
            }
        }
    }

    fn started(&mut self, start: &Start, state: JobState) {
        let process = &self.snapshot.formations[&start.formation].processes[&start.process];
        let (reservation, name) = (process.reservation, start.process.to_string());
        let mut job = self.job(&start.formation, &name, start.host.as_str(), state);
        job.reservation = reservation;
        *self.snapshot.jobs.last_mut().expect("part of a test world") = job;
        for volume in start.volumes.iter().filter_map(|volume| volume.existing.as_ref()) {
            self.snapshot.volumes.get_mut(volume).expect("part of a test world").state =
                VolumeState::Held;
        }
        let replaced = self.snapshot.retries.iter().position(|retry| {
            retry.formation == start.formation
                && retry.process == start.process
                && retry.restarts == start.restarts
                && retry.not_before <= self.now
        });
        if let Some(replaced) = replaced {
            self.snapshot.retries.remove(replaced);
        }
    }

    /// How many jobs of the type that are not stopping each host has.
    pub(crate) fn counts(&self, name: &str) -> Vec<(String, usize)> {
        let count = |host: &HostId| {
            let here = |job: &&Job| {
                job.host == *host && job.process.as_str() == name && job.state.counts()
            };
            self.snapshot.jobs.iter().filter(here).count()
        };
        self.snapshot.hosts.keys().map(|host| (host.to_string(), count(host))).collect()
    }
}

/// A plan in a few words, one line a step or reason.
pub(crate) fn tell(plan: &Plan) -> Vec<String> {
    let steps = plan.steps.iter().map(|step| match step {
        Step::Start(start) => {
            format!("start {} on {}: {}", start.process, start.host, start.reason)
        }
        Step::Stop(stop) => format!("stop {}: {}", stop.job.host_part(), stop.reason),
    });
    let unplaced = plan
        .unplaced
        .iter()
        .map(|it| format!("{} {} unplaced: {}", it.count, it.process, it.reason));
    steps
        .chain(unplaced)
        .chain(plan.held.iter().map(|held| format!("{}: {held}", held.process)))
        .collect()
}
