//! What the planner answers: steps, and for everything it could not or would not do, why.

use std::collections::BTreeMap;
use std::fmt;

use kit_clock::Mono;
use kit_ids::{HostId, JobId, VolumeId};
use kit_units::{Bytes, Millicpu};

use crate::{FormationKey, ProcessName};

/// Steps towards what is wanted. Every step may be taken alone and in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The snapshot's generation.
    pub generation: u64,
    /// What to do, stops first.
    pub steps: Vec<Step>,
    /// What is wanted and cannot be had now.
    pub unplaced: Vec<Unplaced>,
    /// What is not wanted and stays all the same.
    pub held: Vec<Held>,
    /// Jobs on lost hosts: whatever they are doing, they count for nothing.
    pub lost: Vec<JobId>,
    /// When the next silent host counts as lost.
    pub next_loss: Option<Mono>,
}

impl Plan {
    /// The next moment at which time alone changes the plan.
    pub fn next_due(&self) -> Option<Mono> {
        let waiting = self.unplaced.iter().filter_map(|unplaced| unplaced.reason.until());
        waiting.chain(self.next_loss).min()
    }

    /// The starts.
    pub fn starts(&self) -> impl Iterator<Item = &Start> {
        self.steps.iter().filter_map(|step| match step {
            Step::Start(start) => Some(start),
            Step::Stop(_) => None,
        })
    }

    /// The stops.
    pub fn stops(&self) -> impl Iterator<Item = &Stop> {
        self.steps.iter().filter_map(|step| match step {
            Step::Stop(stop) => Some(stop),
            Step::Start(_) => None,
        })
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a job.
    Start(Start),
    /// Stop a job.
    Stop(Stop),
}

/// A job to start. Its id is chosen and recorded by whoever runs the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Whose job.
    pub formation: FormationKey,
    /// Its process type.
    pub process: ProcessName,
    /// Where.
    pub host: HostId,
    /// How often its line has been restarted.
    pub restarts: u32,
    /// Its volumes, in the order of the process's needs.
    pub volumes: Vec<VolumeUse>,
    /// Why.
    pub reason: StartReason,
}

/// A volume of a job to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse {
    /// Where it is mounted.
    pub path: String,
    /// The volume with the data, or `None` for a new one.
    pub existing: Option<VolumeId>,
    /// It goes with the job.
    pub delete_on_stop: bool,
}

/// Why a job is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// Fewer are there than wanted.
    Missing,
    /// One ended.
    Ended,
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "fewer than wanted",
            Self::Ended => "replaces one that ended",
        })
    }
}

/// A job to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Which.
    pub job: JobId,
    /// Where it is.
    pub host: HostId,
    /// Why.
    pub reason: StopReason,
}

/// Why a job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// More are there than wanted.
    Surplus,
    /// Its host drains, and enough run elsewhere.
    Draining,
    /// Its host has lost a tag the process type asks for.
    TagsChanged,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surplus => "more than wanted",
            Self::Draining => "its host drains",
            Self::TagsChanged => "its host no longer has the tags",
        })
    }
}

/// Jobs that are wanted and cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Whose jobs.
    pub formation: FormationKey,
    /// Their process type.
    pub process: ProcessName,
    /// How many, for this reason.
    pub count: u32,
    /// Why.
    pub reason: Unplaceable,
}

/// Why a job cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaceable {
    /// No host takes jobs.
    NoHosts,
    /// No host that takes jobs has these tags.
    NoTags(BTreeMap<String, String>),
    /// No host with the tags has enough left.
    NoRoom {
        /// Memory one job reserves.
        memory: Bytes,
        /// Processor share one job reserves.
        cpu: Millicpu,
        /// The host with the most memory left.
        roomiest: HostId,
        /// What it has left.
        free_memory: Bytes,
        /// What it has left.
        free_cpu: Millicpu,
    },
    /// Every host with room said no.
    Refused {
        /// One of them.
        host: HostId,
        /// Its words.
        why: String,
        /// The first is asked again then.
        until: Mono,
    },
    /// One that was told to stop may still run: with another there would be more than wanted.
    StillStopping,
    /// It kept ending and waits for its next try.
    BackingOff {
        /// How often its line has been restarted.
        restarts: u32,
        /// The next try.
        until: Mono,
    },
    /// Its data is on a host that takes no jobs now.
    DataOnHost {
        /// The volume.
        volume: VolumeId,
        /// Where it is.
        host: HostId,
        /// What is the matter with the host.
        problem: &'static str,
    },
}

impl Unplaceable {
    /// When time alone may change it.
    pub fn until(&self) -> Option<Mono> {
        match self {
            Self::Refused { until, .. } | Self::BackingOff { until, .. } => Some(*until),
            Self::NoHosts
            | Self::NoTags(_)
            | Self::NoRoom { .. }
            | Self::StillStopping
            | Self::DataOnHost { .. } => None,
        }
    }
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHosts => f.write_str("no host takes jobs"),
            Self::NoTags(tags) => {
                let tags: Vec<_> =
                    tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "no host has tag {}", tags.join(" and "))
            }
            Self::NoRoom { memory, cpu, roomiest, free_memory, free_cpu } => write!(
                f,
                "no host has room for {memory} of memory and {cpu}m cpu: \
                 {roomiest} has the most left, {free_memory} and {free_cpu}m"
            ),
            Self::Refused { host, why, .. } => write!(f, "{host} refused: {why}"),
            Self::StillStopping => f.write_str("the job it takes the place of still stops"),
            Self::BackingOff { restarts, .. } => {
                write!(f, "it ended {restarts} times in a row and waits for its next try")
            }
            Self::DataOnHost { volume, host, problem } => {
                write!(f, "its data is in volume {volume} on {host}, which {problem}")
            }
        }
    }
}

/// Jobs that are not wanted and stay, because they are the last ones of a critical app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose jobs.
    pub formation: FormationKey,
    /// Their process type.
    pub process: ProcessName,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refusing to scale down critical app: no other formation of it has running jobs")
    }
}
