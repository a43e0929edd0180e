//! The jobs of a snapshot, called up by process type: what a plan looks at most, in one pass over them.

use kit_ids::{AppId, JobId};

use crate::fleet::{Fleet, Standing};
use crate::{Formation, FormationKey, Job, JobState, Process, ProcessName, Snapshot};

/// A job and the number of its host, which is known and not lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There<'a> {
    pub(crate) job: &'a Job,
    pub(crate) host: usize,
}

/// One formation and its jobs.
#[derive(Debug)]
pub(crate) struct Called<'a> {
    pub(crate) key: &'a FormationKey,
    pub(crate) formation: &'a Formation,
    /// In the order of their names.
    pub(crate) types: Vec<CalledType<'a>>,
    /// Jobs of types that the formation does not name.
    pub(crate) unnamed: Vec<There<'a>>,
    runs: bool,
}

/// One process type and its jobs.
#[derive(Debug)]
pub(crate) struct CalledType<'a> {
    pub(crate) name: &'a ProcessName,
    pub(crate) process: &'a Process,
    /// Those that count.
    pub(crate) jobs: Vec<There<'a>>,
    /// The hosts of those that were told to stop and may still run, one entry a job.
    pub(crate) stopping: Vec<usize>,
}

/// All formations with their jobs.
#[derive(Debug)]
pub(crate) struct Roll<'a> {
    pub(crate) formations: Vec<Called<'a>>,
    /// Jobs on lost hosts.
    pub(crate) lost: Vec<JobId>,
    /// Formations that run and that nobody told of; they count for their apps all the same.
    strangers: Vec<&'a FormationKey>,
}

/// Room is made for as many jobs as are wanted, within reason.
const MAX_EXPECTED: usize = 64;

#[expect(clippy::disallowed_types, reason = "looked up only, never gone through")]
type Numbers<'a> = std::collections::HashMap<&'a FormationKey, usize>;

impl<'a> Roll<'a> {
    /// Calls up all jobs. What each holds of its host is counted in the fleet.
    pub(crate) fn call(snapshot: &'a Snapshot, fleet: &mut Fleet<'a>) -> Self {
        let formations: Vec<_> = snapshot.formations.iter().map(Called::of).collect();
        let numbers: Numbers<'a> =
            formations.iter().enumerate().map(|(number, called)| (called.key, number)).collect();
        let mut roll = Self { formations, lost: Vec::new(), strangers: Vec::new() };
        // Jobs come host by host: the last one's host is mostly the next one's.
        let mut last = None;
        for job in &snapshot.jobs {
            let host = match last {
                Some((id, number)) if id == &job.host => number,
                _ => fleet.number(&job.host),
            };
            last = Some((&job.host, host));
            let standing = host.map_or(Standing::Lost, |host| fleet.slot(host).standing);
            if let Some(host) = host {
                fleet.count(host, job.reservation);
            }
            match (standing, host) {
                (Standing::Lost, _) | (_, None) => roll.lost.push(job.id.clone()),
                (_, Some(host)) => roll.note(&numbers, There { job, host }),
            }
        }
        roll.strangers.sort_unstable();
        roll.strangers.dedup();
        roll
    }

    fn note(&mut self, numbers: &Numbers<'a>, there: There<'a>) {
        let job = there.job;
        let Some(key) = &job.formation else { return };
        let runs = job.state == JobState::Running;
        let Some(called) = numbers.get(key).and_then(|number| self.formations.get_mut(*number))
        else {
            if runs {
                self.strangers.push(key);
            }
            return;
        };
        called.runs |= runs;
        let at = called.types.binary_search_by(|of_type| of_type.name.cmp(&job.process));
        match at.ok().and_then(|at| called.types.get_mut(at)) {
            Some(of_type) if job.state.counts() => of_type.jobs.push(there),
            Some(of_type) => of_type.stopping.push(there.host),
            None if job.state.counts() => called.unnamed.push(there),
            None => {}
        }
    }

    /// How many formations of an app have running jobs.
    pub(crate) fn running_formations(&self, app: &AppId) -> usize {
        let known = self.formations.iter().filter(|called| called.runs).map(|called| called.key);
        known.chain(self.strangers.iter().copied()).filter(|key| key.app == *app).count()
    }
}

impl<'a> Called<'a> {
    fn of((key, formation): (&'a FormationKey, &'a Formation)) -> Self {
        let of_type = |(name, process): (_, &'a Process)| CalledType {
            name,
            process,
            jobs: Vec::with_capacity((process.count as usize).min(MAX_EXPECTED)),
            stopping: Vec::new(),
        };
        let types = formation.processes.iter().map(of_type).collect();
        Self { key, formation, types, unnamed: Vec::new(), runs: false }
    }
}
