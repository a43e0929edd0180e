//! Jobs over HTTP: list, show, add, stop, signal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use host_api::{Job, Refusal, ResourceKind};
use host_container::protocol::Order;
use host_job::{Refused, Shortage};
use http::HeaderMap;
use kit_http::{ApiError, Json, Query, wants_sse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::health::disk;
use super::{event_stream, job_id, not_kept, unknown_job};
use crate::host::Host;
use crate::registry::AddError;
use crate::runner::{self, Begin, StopError};
use crate::supervisor::{OrderError, order};

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    active: String,
}

pub(super) async fn list(
    State(host): State<Arc<Host>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Response {
    if wants_sse(&headers) {
        return event_stream(host.registry.events(), |_| true);
    }
    let only_active = query.active == "true";
    let jobs = host.registry.list().await.into_iter().map(|record| record.active);
    let jobs = jobs.filter(|active| !only_active || !active.status.has_ended());
    Json(jobs.map(|active| (active.job.id.clone(), active)).collect::<BTreeMap<_, _>>())
        .into_response()
}

pub(super) async fn get(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = job_id(&id)?;
    if wants_sse(&headers) {
        return Ok(event_stream(host.registry.events(), move |event| event.job_id == id));
    }
    let found = host.registry.get(&id).await.map_err(|error| ApiError::internal(&error))?;
    Ok(Json(found.ok_or_else(unknown_job)?.active).into_response())
}

pub(super) async fn add(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
    permit: Turn,
    Json(body): Json<Value>,
) -> Result<Json<Value>, ApiError> {
    if host.going_down.load(Ordering::SeqCst) {
        return Err(ApiError::service_unavailable("the host is going down"));
    }
    if host.settings.now().draining {
        return Err(ApiError::conflict("the host is being emptied and takes no new jobs"));
    }
    let job = parse_job(&id, body)?;
    has_disk(&host).await?;
    let id = job.id.clone();
    let reservation = host.limits(&job).reservation;
    host.registry.add(job, reservation, 0).await.map_err(add_error)?;
    runner::spawn(&host, id, Begin::Fresh(Some(permit.0)));
    Ok(Json(json!({})))
}

/// Free on the data directory's disk before a job is taken: its state, network and first lines of log many
/// times over. A job that was taken without could not even be told to have failed.
const ROOM: u64 = 16 << 20;

async fn has_disk(host: &Host) -> Result<(), ApiError> {
    let data_dir = host.config.data_dir.clone();
    let looked = tokio::task::spawn_blocking(move || disk(&data_dir)).await;
    let disk = looked.map_err(|lost| ApiError::internal(&lost))?;
    // One that cannot be looked at is refused by the first write, not here.
    if disk.total == 0 || disk.free >= ROOM {
        return Ok(());
    }
    let (mib, dir) = (|bytes: u64| bytes >> 20, host.config.data_dir.display());
    let text = format!(
        "No space left on device: {dir} has {} MiB free and a new job needs {}; make room there",
        mib(disk.free),
        mib(ROOM)
    );
    Err(ApiError::service_unavailable(text))
}

/// A turn at making a job; taken before the body is read.
pub(super) struct Turn(tokio::sync::OwnedSemaphorePermit);

impl axum::extract::FromRequestParts<Arc<Host>> for Turn {
    type Rejection = ApiError;

    async fn from_request_parts(
        _: &mut http::request::Parts,
        host: &Arc<Host>,
    ) -> Result<Self, ApiError> {
        let busy = "maximum concurrent AddJob calls running, try again later";
        let turn = host.making.clone().try_acquire_owned();
        turn.map(Turn).map_err(|_| ApiError::rate_limited(busy))
    }
}

pub(super) async fn stop(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<(), ApiError> {
    let id = job_id(&id)?;
    // The job is stopped whether or not the client waits for it.
    let (host_of_task, job) = (host.clone(), id.clone());
    let (done, answer) = tokio::sync::oneshot::channel();
    host.tasks.spawn_until_stop("stop", async move {
        // A client that left needs no answer.
        drop(done.send(runner::stop(&host_of_task, &job).await));
    });
    let stopped =
        answer.await.map_err(|_| ApiError::service_unavailable("the daemon is stopping"))?;
    stopped.map_err(|error| match error {
        StopError::Unknown => unknown_job(),
        StopError::AlreadyStopped => ApiError::conflict(error.to_string()),
        StopError::Store(error) => not_kept(&error),
    })
}

pub(super) async fn deregister(
    State(host): State<Arc<Host>>,
    Path(id): Path<String>,
) -> Result<(), ApiError> {
    send(&host, &id, Order::Deregister).await
}

pub(super) async fn signal(
    State(host): State<Arc<Host>>,
    Path((id, signal)): Path<(String, String)>,
) -> Result<(), ApiError> {
    let number =
        signal.parse::<i32>().map_err(|_| ApiError::validation("sig", "must be an integer"))?;
    send(&host, &id, Order::Signal { signal: number }).await
}

async fn send(host: &Host, id: &str, wanted: Order) -> Result<(), ApiError> {
    let id = job_id(id)?;
    let found = host.registry.get(&id).await.map_err(|error| ApiError::internal(&error))?;
    let record = found.ok_or_else(unknown_job)?;
    if record.active.status != host_api::JobStatus::Running {
        return Err(ApiError::conflict("host: job not running"));
    }
    order(&host.job_dir(&id), wanted).await.map_err(|error| match error {
        OrderError::Refused(reason) => ApiError::conflict(reason),
        OrderError::Unreachable(_) | OrderError::Timeout => ApiError::internal(&error),
    })
}

/// The body's id wins over the path's.
fn parse_job(id: &str, body: Value) -> Result<Job, ApiError> {
    let Value::Object(mut fields) = body else { return Err(ApiError::syntax()) };
    let has_id = fields.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    if !has_id {
        fields.insert("id".to_owned(), Value::from(id));
    }
    let id_text = fields.get("id").and_then(Value::as_str).unwrap_or_default();
    if let Err(error) = id_text.parse::<kit_ids::JobId>() {
        return Err(ApiError::validation("id", error));
    }
    let job: Job = serde_json::from_value(Value::Object(fields)).map_err(|_| ApiError::syntax())?;
    if job.mountspecs.is_empty() {
        return Err(ApiError::validation("mountspecs", "must be set"));
    }
    Ok(job)
}

fn add_error(error: AddError) -> ApiError {
    match error {
        AddError::Exists | AddError::VolumesInUse(_) => ApiError::conflict(error.to_string()),
        AddError::NoRoom(refused) => {
            let detail = serde_json::to_value(refusal(refused)).unwrap_or_default();
            ApiError::conflict(refused.to_string()).with_detail(detail)
        }
        AddError::Store(error) => not_kept(&error),
    }
}

fn refusal(refused: Refused) -> Refusal {
    Refusal {
        resource: match refused.resource {
            Shortage::Memory => ResourceKind::Memory,
            Shortage::Cpu => ResourceKind::Cpu,
        },
        requested: refused.requested,
        available: refused.available,
        generation: refused.generation,
    }
}
