//! Two schedulers that know nothing of each other and the same hosts: this one, and the example batch
//! scheduler, twice. Hosts are HTTP servers that keep the real host's ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use host_api::{
    ActiveJob, Capacity, HostResources, HostStatus, Job, JobStatus, Refusal, ResourceKind,
};
use host_job::{Ledger, Shortage};
use kit_http::{ApiError, Json};
use kit_ids::JobId;
use kit_tasks::Tasks;
use kit_units::{Bytes, Millicpu};

use super::handle::Simulated;

#[path = "../../examples/batch.rs"]
mod batch;

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);
const MEMORY: Bytes = Bytes::mib(1000);
/// A job of the batch ends when its host's jobs were listed so often.
const ENDS_AFTER: u32 = 3;

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    jobs: BTreeMap<JobId, (ActiveJob, u32)>,
    most_used: u64,
}

#[derive(Clone, Debug)]
struct Host {
    name: &'static str,
    inner: Arc<Mutex<Inner>>,
}

impl Host {
    fn new(name: &'static str) -> Self {
        let capacity = host_job::Reservation { memory: MEMORY, cpu: Millicpu(100_000) };
        let (ledger, jobs) = (Ledger::new(capacity), BTreeMap::new());
        Self { name, inner: Arc::new(Mutex::new(Inner { ledger, jobs, most_used: 0 })) }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, tasks: &Tasks, listener: tokio::net::TcpListener) {
        let routes = Router::new()
            .route("/host/status", get(status))
            .route("/host/jobs", get(list))
            .route("/host/jobs/{id}", get(one).put(add).delete(stop))
            .with_state(self.clone());
        kit_http::serve(tasks, listener, kit_http::finish(routes)).expect("it listens");
    }

    /// What the jobs that have not ended hold, counted without the ledger.
    fn used(inner: &Inner) -> u64 {
        let alive = inner.jobs.values().filter(|(job, _)| !job.status.has_ended());
        alive.map(|(job, _)| controller_api::reserved(&job.job.resources).0).sum()
    }
}

async fn status(State(host): State<Host>) -> Json<HostStatus> {
    let inner = host.inner();
    let (all, used) = (inner.ledger.capacity(), inner.ledger.reserved());
    let json = serde_json::json!({"id": host.name, "pid": 1, "url": "http://h", "version": "dev"});
    let mut status: HostStatus = serde_json::from_value(json).expect("a status");
    status.resources = Some(HostResources {
        memory: Capacity { total: all.memory.0, reserved: used.memory.0 },
        cpu: Capacity { total: all.cpu.0, reserved: used.cpu.0 },
        generation: inner.ledger.generation(),
    });
    Json(status)
}

async fn list(State(host): State<Host>) -> Json<BTreeMap<JobId, ActiveJob>> {
    let mut inner = host.inner();
    let Inner { ledger, jobs, .. } = &mut *inner;
    for (id, (job, listed)) in jobs.iter_mut() {
        *listed += 1;
        let is_batch = job.job.meta("batch").is_some();
        if (is_batch && *listed == ENDS_AFTER) || (job.force_stop && !job.status.has_ended()) {
            job.status = JobStatus::Done;
            ledger.release(id);
        } else if job.status == JobStatus::Starting {
            job.status = JobStatus::Running;
        }
    }
    Json(jobs.iter().map(|(id, (job, _))| (id.clone(), job.clone())).collect())
}

async fn one(State(host): State<Host>, Path(id): Path<JobId>) -> Result<Json<ActiveJob>, ApiError> {
    let inner = host.inner();
    let found = inner.jobs.get(&id).map(|(job, _)| Json(job.clone()));
    found.ok_or_else(|| ApiError::not_found("no such job"))
}

async fn add(State(host): State<Host>, Json(job): Json<Job>) -> Result<Json<()>, ApiError> {
    let mut inner = host.inner();
    if inner.jobs.contains_key(&job.id) {
        return Err(ApiError::conflict("job already exists"));
    }
    let (memory, cpu) = controller_api::reserved(&job.resources);
    let wanted = host_job::Reservation { memory: Bytes(memory), cpu: Millicpu(cpu) };
    inner.ledger.reserve(&job.id, wanted).map_err(|refused| {
        let refusal = Refusal {
            resource: match refused.resource {
                Shortage::Memory => ResourceKind::Memory,
                Shortage::Cpu => ResourceKind::Cpu,
            },
            requested: refused.requested,
            available: refused.available,
            generation: refused.generation,
        };
        let detail = serde_json::to_value(refusal).expect("figures");
        ApiError::conflict(refused.to_string()).with_detail(detail)
    })?;
    let json = serde_json::json!({"job": job, "host_id": host.name});
    let active: ActiveJob = serde_json::from_value(json).expect("an active job");
    inner.jobs.insert(job.id, (active, 0));
    inner.most_used = inner.most_used.max(Host::used(&inner));
    Ok(Json(()))
}

async fn stop(State(host): State<Host>, Path(id): Path<JobId>) {
    if let Some((job, _)) = host.inner().jobs.get_mut(&id) {
        job.force_stop = true;
    }
}

/// A job of the batch: a quarter of a host.
fn template() -> Job {
    let json = serde_json::json!({
        "id": "any-0", "metadata": {"batch": "yes"},
        "resources": {"memory": {"request": 250 << 20, "limit": 250 << 20}},
        "config": {"args": ["/bin/work"]},
    });
    serde_json::from_value(json).expect("a job")
}

#[tokio::test]
async fn two_batches_and_the_services_share_hosts_without_excess_or_livelock() {
    let tasks = Tasks::root("hosts");
    let names = ["a", "b", "c"];
    let cluster = Simulated::new(&names, 12, 1);
    let (mut hosts, mut urls) = (Vec::new(), Vec::new());
    for name in names {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let client = host_api::HostClient::new(&url).expect("a client");
        cluster.world().served.insert(name.parse().expect("a host id"), client);
        let host = Host::new(name);
        host.serve(&tasks, listener);
        hosts.push(host);
        urls.push(url);
    }
    let services = async {
        let mut scheduler = cluster.scheduler();
        loop {
            cluster.round(&mut scheduler).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let running = |host: &Host| {
                let inner = host.inner();
                let jobs = inner.jobs.values().map(|(job, _)| job);
                let web = jobs.filter(|job| job.job.meta("batch").is_none());
                web.filter(|job| job.status == JobStatus::Running).count()
            };
            if hosts.iter().map(running).sum::<usize>() == 12 {
                return;
            }
        }
    };
    let template = template();
    let (one, other) = (batch::run(&urls, &template, 40), batch::run(&urls, &template, 40));
    let all = async { tokio::join!(services, one, other) };
    let ((), one, other) = tokio::time::timeout(DEADLINE, all).await.expect("no livelock");
    let (one, other) = (one.expect("a batch"), other.expect("a batch"));
    assert_eq!((one.ended, other.ended), (40, 40));
    assert!(one.refused + other.refused > 0, "they never met: {one:?} {other:?}");
    for host in &hosts {
        let inner = host.inner();
        assert!(inner.most_used <= MEMORY.0, "{}: {}", host.name, inner.most_used);
        inner.ledger.check_invariants();
    }
    tasks.shutdown(DEADLINE).await;
}
