//! A host daemon as far as a bootstrap sees it, with the discoverd and the overlay that its jobs would
//! be: once their jobs run, the host knows discoverd and has a subnet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::routing::{get, post, put};
use bootstrap::Options;
use discoverd_api::Instance;
use host_api::{
    ActiveJob, DiscoverdConfig, HostPort, HostStatus, Job, JobStatus, NetworkConfig, ResourceCheck,
    Timestamp, VolumeInfo,
};
use kit_http::{ApiError, Json};
use kit_ids::JobId;
use kit_tasks::{Running, Tasks};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A host daemon.
#[derive(Clone)]
pub(crate) struct FakeHost {
    inner: Arc<Mutex<Inner>>,
    addr: SocketAddr,
}

/// What can be looked at and changed by tests.
pub(crate) struct Inner {
    id: String,
    pub(crate) jobs: BTreeMap<JobId, ActiveJob>,
    /// Every job that was added, in order.
    pub(crate) added: Vec<Job>,
    pub(crate) volumes: BTreeMap<String, VolumeInfo>,
    pub(crate) images: BTreeMap<String, Value>,
    pub(crate) taken_ports: Vec<u16>,
    /// How the next added jobs end instead of running.
    pub(crate) fail_with: Option<&'static str>,
    /// How many additions are put off.
    pub(crate) busy: u32,
    /// How many additions break without a word of ours.
    pub(crate) broken: u32,
    /// Whether it never gets a subnet.
    pub(crate) without_network: bool,
}

impl FakeHost {
    /// A host with the image `core`, on a loopback address.
    pub(crate) async fn start(tasks: &Tasks, id: &str, addr: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let inner = Inner {
            id: id.to_owned(),
            jobs: BTreeMap::new(),
            added: Vec::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::from([("core".to_owned(), core_image())]),
            taken_ports: Vec::new(),
            fail_with: None,
            busy: 0,
            broken: 0,
            without_network: false,
        };
        let addr = listener.local_addr()?;
        let host = Self { inner: Arc::new(Mutex::new(inner)), addr };
        let running: Running = kit_http::serve(tasks, listener, router(host.clone()))?;
        assert_eq!(running.addr(), addr);
        Ok(host)
    }

    /// The only host there is.
    pub(crate) async fn alone(tasks: &Tasks) -> Self {
        Self::start(tasks, "host1", ([127, 0, 0, 1], 0).into()).await.unwrap()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Options for a bootstrap of this host alone.
    pub(crate) fn options(&self, dir: &Path) -> Options {
        Options {
            local_host_url: format!("http://{}", self.addr),
            timeout: Duration::from_secs(30),
            env: BTreeMap::from([("CLUSTER_DOMAIN".to_owned(), "flynn.localhost".to_owned())]),
            ..Options::new(dir)
        }
    }

    /// The jobs of an app, in the order they were added.
    pub(crate) fn jobs_of(&self, app: &str) -> Vec<Job> {
        let of = |job: &&Job| job.meta("flynn-controller.app_name") == Some(app);
        self.lock().added.iter().filter(of).cloned().collect()
    }

    fn runs(&self, app: &str) -> bool {
        let inner = self.lock();
        inner.jobs.values().any(|active| {
            active.status == JobStatus::Running
                && active.job.meta("flynn-controller.app_name") == Some(app)
        })
    }
}

fn core_image() -> Value {
    let layer = json!({
        "id": "c0de", "type": "application/vnd.flynn.image.squashfs.v1", "length": 4096,
        "hashes": { "sha512_256": "c0de" },
    });
    json!({
        "type": "flynn",
        "uri": "http://127.0.0.1:1113/host/images/abc",
        "meta": { "flynn.system-image": "true" },
        "manifest": {
            "_type": "application/vnd.flynn.image.manifest.v1+json",
            "rootfs": [{ "layers": [layer] }],
        },
        "layer_url_template": "http://127.0.0.1:1113/host/layers/{id}",
    })
}

fn router(host: FakeHost) -> Router {
    Router::new()
        .route("/host/status", get(status))
        .route(
            "/host/images",
            get(async |State(host): State<FakeHost>| Json(host.lock().images.clone())),
        )
        .route("/host/resource-check", post(check_ports))
        .route("/host/jobs", get(list_jobs))
        .route("/host/jobs/{id}", put(add_job).get(read_job))
        .route("/storage/providers/default/volumes", post(make_volume))
        .route("/storage/volumes/{id}", get(read_volume))
        .route("/services/flynn-host/instances", get(instances))
        .with_state(host)
}

async fn status(State(host): State<FakeHost>) -> Json<HostStatus> {
    let discoverd = host
        .runs("discoverd")
        .then(|| DiscoverdConfig { url: host.addr.to_string(), ..DiscoverdConfig::default() });
    let network = host.runs("flannel").then(|| NetworkConfig {
        subnet: "100.100.12.1/24".to_owned(),
        ..NetworkConfig::default()
    });
    let inner = host.lock();
    Json(HostStatus {
        id: inner.id.parse().unwrap(),
        tags: BTreeMap::new(),
        pid: 1,
        url: format!("http://{}", host.addr),
        discoverd,
        network: network.filter(|_| !inner.without_network),
        version: "test".to_owned(),
        flags: None,
        resources: None,
        draining: false,
        isolation: None,
    })
}

async fn check_ports(
    State(host): State<FakeHost>,
    Json(check): Json<ResourceCheck>,
) -> Result<Json<Value>, ApiError> {
    let inner = host.lock();
    let taken = |port: &HostPort| inner.taken_ports.contains(&port.port);
    let ports: Vec<_> = check.ports.into_iter().filter(taken).collect();
    if ports.is_empty() {
        return Ok(Json(json!({})));
    }
    let detail = serde_json::to_value(ResourceCheck { ports }).unwrap();
    Err(ApiError::conflict("Conflicting resources found").with_detail(detail))
}

async fn list_jobs(State(host): State<FakeHost>) -> Json<BTreeMap<JobId, ActiveJob>> {
    let mut jobs = host.lock().jobs.clone();
    jobs.retain(|_, active| !active.status.has_ended());
    Json(jobs)
}

async fn read_job(
    State(host): State<FakeHost>,
    UrlPath(id): UrlPath<JobId>,
) -> Result<Json<ActiveJob>, ApiError> {
    let found = host.lock().jobs.get(&id).cloned();
    found.map(Json).ok_or_else(|| ApiError::object_not_found("host: unknown job"))
}

async fn add_job(
    State(host): State<FakeHost>,
    Json(job): Json<Job>,
) -> Result<Json<Value>, ApiError> {
    let mut inner = host.lock();
    if inner.broken > 0 {
        inner.broken -= 1;
        return Err(ApiError::unknown());
    }
    if inner.busy > 0 {
        inner.busy -= 1;
        return Err(ApiError::rate_limited(
            "maximum concurrent AddJob calls running, try again later",
        ));
    }
    if inner.jobs.contains_key(&job.id) {
        return Err(ApiError::conflict("job already exists"));
    }
    let error = inner.fail_with.take().map(str::to_owned);
    let active = ActiveJob {
        job: job.clone(),
        host_id: inner.id.clone(),
        internal_ip: None,
        pid: None,
        force_stop: false,
        status: if error.is_some() { JobStatus::Failed } else { JobStatus::Running },
        created_at: Timestamp::default(),
        started_at: Timestamp::default(),
        ended_at: Timestamp::default(),
        exit_status: None,
        error,
    };
    inner.jobs.insert(job.id.clone(), active);
    inner.added.push(job);
    Ok(Json(json!({})))
}

async fn make_volume(
    State(host): State<FakeHost>,
    Json(info): Json<VolumeInfo>,
) -> Json<VolumeInfo> {
    host.lock().volumes.insert(info.id.clone(), info.clone());
    Json(info)
}

async fn read_volume(
    State(host): State<FakeHost>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<VolumeInfo>, ApiError> {
    let found = host.lock().volumes.get(&id).cloned();
    found.map(Json).ok_or_else(|| ApiError::object_not_found(format!("no volume with id {id:?}")))
}

/// What discoverd would say: every host of the tests is registered.
async fn instances() -> Json<Vec<Instance>> {
    let one = |n: u8| {
        Instance::new("tcp", &format!("127.0.0.{n}:1113")).with_meta("id", &format!("host{n}"))
    };
    Json((1..=3).map(one).collect())
}
