//! What a round needs of the world: the controller, the hosts and discovery. One implementation talks
//! to them, one simulates them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use controller_api::{ExpandedFormation, Job, ScaleRequest, Volume};
use host_api::{ActiveJob, VolumeInfo};
use kit_ids::{HostId, JobId};
use placement::{FormationKey, Reservation};

/// A call failed; the next round tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Away(pub(crate) String);

/// Why a host did not take a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    /// It said no: try another host.
    Refused(String),
    /// It is not known whether it heard: the same job is sent again.
    Away(Away),
}

/// A host as discovery knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostSeen {
    pub(crate) id: HostId,
    pub(crate) url: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) draining: bool,
}

/// The hosts that were ever seen and are not forgotten, as discovery keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Which write this is; 0 when there was none.
    pub(crate) index: u64,
    pub(crate) hosts: BTreeMap<HostId, KeptHost>,
}

/// What is kept of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeptHost {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) draining: bool,
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostAnswer {
    pub(crate) capacity: Reservation,
    pub(crate) jobs: Vec<ActiveJob>,
}

/// What became of a formation that is not among the active ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lookup {
    /// It is there, with nothing wanted.
    Found(Box<ExpandedFormation>),
    /// Its app is there, the formation is not: nothing is wanted.
    Deleted,
    /// The controller knows no such app. Its jobs are not ours to stop.
    Unknown,
}

/// Since when a host has a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was made, empty, by this call.
    Now,
    /// It was there, with whatever it holds.
    Before,
}

/// The world of a scheduler.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// From now on the controller records no job for whoever acted before. Costs nothing while this
    /// scheduler is the one; when another one is, every [`record`](Self::record) fails until this is
    /// called again. Answers whether somebody else may have acted since it was called last.
    fn claim(&self) -> impl Future<Output = Result<bool, Away>> + Send;
    /// Names a job or a volume that is yet to be.
    fn fresh_name(&self) -> uuid::Uuid;
    /// Formations that want at least one job.
    fn formations(&self) -> impl Future<Output = Result<Vec<ExpandedFormation>, Away>> + Send;
    /// A formation that is not among those.
    fn formation(&self, key: &FormationKey) -> impl Future<Output = Result<Lookup, Away>> + Send;
    /// The jobs that the controller believes to be there.
    fn recorded(&self) -> impl Future<Output = Result<Vec<Job>, Away>> + Send;
    /// Tells the controller of a job.
    fn record(&self, job: &Job) -> impl Future<Output = Result<(), Away>> + Send;
    /// The volumes of formation jobs.
    fn volumes(&self) -> impl Future<Output = Result<Vec<Volume>, Away>> + Send;
    /// Tells the controller of a volume.
    fn record_volume(&self, volume: &Volume) -> impl Future<Output = Result<(), Away>> + Send;
    /// Tells the controller that a scale request is fulfilled.
    fn complete(
        &self,
        key: &FormationKey,
        request: &ScaleRequest,
    ) -> impl Future<Output = Result<(), Away>> + Send;
    /// The hosts of the cluster.
    fn hosts(&self) -> impl Future<Output = Result<Vec<HostSeen>, Away>> + Send;
    /// The hosts that were kept.
    fn kept(&self) -> impl Future<Output = Result<Kept, Away>> + Send;
    /// Keeps hosts in place of what has `kept.index`; answers the new index. Done only with a quorum of
    /// discovery, and only when nobody else was faster.
    fn keep(&self, kept: &Kept) -> impl Future<Output = Result<u64, Away>> + Send;
    /// A host's jobs and room.
    fn ask(&self, host: &HostSeen) -> impl Future<Output = Result<HostAnswer, Away>> + Send;
    /// The jobs that answer for a service.
    fn answering(
        &self,
        service: &str,
    ) -> impl Future<Output = Result<BTreeSet<JobId>, Away>> + Send;
    /// Gives a host a job. That it has it already is success.
    fn add(
        &self,
        host: &HostSeen,
        job: &host_api::Job,
    ) -> impl Future<Output = Result<(), NotAdded>> + Send;
    /// Takes a job out of its services and has it stopped; does not wait for its end.
    fn stop(&self, host: &HostSeen, job: &JobId) -> impl Future<Output = Result<(), Away>> + Send;
    /// Sees to it that a host has a volume.
    fn make_volume(
        &self,
        host: &HostSeen,
        volume: &VolumeInfo,
    ) -> impl Future<Output = Result<Made, Away>> + Send;
}
