//! The typed client of one host.

use std::collections::BTreeMap;
use std::time::Duration;

use kit_http::{Client, ClientError, EventStream, Ignored, Request, Response, SseError};
use kit_ids::JobId;

use crate::{
    ActiveJob, AttachReq, Attachment, DiscoverdConfig, Draining, Event, HostHealth, HostPort,
    HostStatus, Job, MemberChange, NetworkConfig, ProviderSpec, ResourceCheck, Sink, SinkInfo,
    UPGRADE_PROTOCOL, VolumeInfo,
};

/// The port a host listens on unless told otherwise.
pub const PORT: u16 = 1113;

/// A stop waits 30 s for the program's own end before it kills.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostClient {
    http: Client,
}

impl HostClient {
    /// A client of the host at `url`, such as `http://192.0.2.10:1113`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Client::new(url).map(Self::from_client)
    }

    /// A client over an HTTP client made elsewhere.
    pub fn from_client(http: Client) -> Self {
        Self { http }
    }

    /// The HTTP client, for what has no method here.
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// All jobs the host lists, by id.
    pub async fn jobs(&self) -> Result<BTreeMap<JobId, ActiveJob>, ClientError> {
        self.http.get_json("/host/jobs").await
    }

    /// The jobs that start or run.
    pub async fn active_jobs(&self) -> Result<BTreeMap<JobId, ActiveJob>, ClientError> {
        self.http.get_json("/host/jobs?active=true").await
    }

    /// One job, also when it is no longer listed.
    pub async fn job(&self, id: &JobId) -> Result<ActiveJob, ClientError> {
        self.http.get_json(&format!("/host/jobs/{id}")).await
    }

    /// Adds a job. A `conflict` whose detail reads as [`Refusal`](crate::Refusal) says that the host has
    /// no room for it.
    pub async fn add_job(&self, job: &Job) -> Result<(), ClientError> {
        let path = format!("/host/jobs/{}", job.id);
        self.http.put_json::<_, Ignored>(&path, job).await.map(drop)
    }

    /// Stops a job: asks its program to end, after 30 s kills it.
    pub async fn stop_job(&self, id: &JobId) -> Result<(), ClientError> {
        let request = Request::new(http::Method::DELETE, &format!("/host/jobs/{id}"));
        self.http.send(request.timeout(STOP_TIMEOUT)).await.map(drop)
    }

    /// Sends a signal to a job's program.
    pub async fn signal_job(&self, id: &JobId, signal: i32) -> Result<(), ClientError> {
        self.put_empty(&format!("/host/jobs/{id}/signal/{signal}")).await
    }

    /// Takes a job's services out of discoverd, so that it can be stopped without lost requests.
    pub async fn deregister_job(&self, id: &JobId) -> Result<(), ClientError> {
        self.put_empty(&format!("/host/jobs/{id}/discoverd-deregister")).await
    }

    /// Events of all jobs, or of one that need not exist yet. Only what happens from now on.
    pub async fn events(&self, job: Option<&JobId>) -> Result<JobEvents, ClientError> {
        let path = job.map_or_else(|| "/host/jobs".to_owned(), |id| format!("/host/jobs/{id}"));
        self.http.events(&path, None).await.map(|stream| JobEvents { stream })
    }

    /// Attaches to a job. The connection's greeting is still to be read.
    pub async fn attach(&self, request: &AttachReq) -> Result<Attachment, ClientError> {
        let request = Request::new(http::Method::POST, "/attach").json(request)?;
        self.http.upgrade(request, UPGRADE_PROTOCOL).await.map(Attachment::over)
    }

    /// What the host says about itself.
    pub async fn status(&self) -> Result<HostStatus, ClientError> {
        self.http.get_json("/host/status").await
    }

    /// How its machine is.
    pub async fn health(&self) -> Result<HostHealth, ClientError> {
        self.http.get_json("/host/health").await
    }

    /// Tells the host where discoverd is.
    pub async fn configure_discoverd(&self, config: &DiscoverdConfig) -> Result<(), ClientError> {
        self.http.post_json::<_, Ignored>("/host/discoverd", config).await.map(drop)
    }

    /// Tells the host its subnet; answered once the bridge is there.
    pub async fn configure_network(&self, config: &NetworkConfig) -> Result<(), ClientError> {
        self.http.post_json::<_, Ignored>("/host/network", config).await.map(drop)
    }

    /// Changes tags; an empty value removes one.
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<(), ClientError> {
        self.http.post_json::<_, Ignored>("/host/tags", tags).await.map(drop)
    }

    /// Tells the host of other hosts of its cluster.
    pub async fn change_members(&self, change: &MemberChange) -> Result<(), ClientError> {
        self.http.post_json::<_, Ignored>("/host/members", change).await.map(drop)
    }

    /// Begins to empty the host, or ends that.
    pub async fn set_draining(&self, draining: bool) -> Result<(), ClientError> {
        let body = Draining { draining };
        self.http.post_json::<_, Ignored>("/host/draining", &body).await.map(drop)
    }

    /// Whether ports are free. A `conflict`'s detail is a [`ResourceCheck`] of those that are not.
    pub async fn check_ports(&self, ports: Vec<HostPort>) -> Result<(), ClientError> {
        let body = ResourceCheck { ports };
        self.http.post_json::<_, Ignored>("/host/resource-check", &body).await.map(drop)
    }

    /// All volumes.
    pub async fn volumes(&self) -> Result<Vec<VolumeInfo>, ClientError> {
        self.http.get_json("/storage/volumes").await
    }

    /// One volume.
    pub async fn volume(&self, id: &str) -> Result<VolumeInfo, ClientError> {
        self.http.get_json(&format!("/storage/volumes/{id}")).await
    }

    /// Makes a volume; an empty id is filled in.
    pub async fn create_volume(
        &self,
        provider: &str,
        info: &VolumeInfo,
    ) -> Result<VolumeInfo, ClientError> {
        self.http.post_json(&format!("/storage/providers/{provider}/volumes"), info).await
    }

    /// Destroys a volume.
    pub async fn destroy_volume(&self, id: &str) -> Result<(), ClientError> {
        self.http.delete(&format!("/storage/volumes/{id}")).await
    }

    /// Adds a provider of volumes.
    pub async fn create_provider(&self, spec: &ProviderSpec) -> Result<ProviderSpec, ClientError> {
        self.http.post_json("/storage/providers", spec).await
    }

    /// All sinks.
    pub async fn sinks(&self) -> Result<Vec<Sink>, ClientError> {
        self.http.get_json("/sinks").await
    }

    /// Adds a sink.
    pub async fn add_sink(&self, sink: &SinkInfo) -> Result<(), ClientError> {
        self.http.put_json::<_, Ignored>(&format!("/sinks/{}", sink.id), sink).await.map(drop)
    }

    /// Removes a sink.
    pub async fn remove_sink(&self, id: &str) -> Result<(), ClientError> {
        self.http.delete(&format!("/sinks/{id}")).await
    }

    /// A layer's squashfs file, if the host has it; the body is still to be read.
    pub async fn layer(&self, id: &str) -> Result<Response, ClientError> {
        self.http.send(Request::get(&format!("/host/layers/{id}"))).await
    }

    /// The artifacts of the images the host knows, by name.
    pub async fn images(&self) -> Result<BTreeMap<String, serde_json::Value>, ClientError> {
        self.http.get_json("/host/images").await
    }

    async fn put_empty(&self, path: &str) -> Result<(), ClientError> {
        self.http.send(Request::new(http::Method::PUT, path)).await.map(drop)
    }
}

/// Events of jobs, as they happen.
#[derive(Debug)]
pub struct JobEvents {
    stream: EventStream,
}

impl JobEvents {
    /// The next event; none when the host ended the stream.
    pub async fn next_event(&mut self) -> Option<Result<Event, SseError>> {
        self.stream.next_json().await
    }
}
