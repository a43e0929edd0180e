//! The HTTP API of a host (spec/host.md §3): routes and how errors become answers. What is done is the
//! business of the other modules.

mod attach;
mod direct;
mod health;
mod jobs;
mod layers;
mod logged;
mod sinks;
mod status;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use kit_http::{ApiError, sse};
use kit_ids::JobId;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::host::Host;
use crate::store::StoreError;

pub(crate) use status::overlay;

/// All routes.
pub(crate) fn router(host: Arc<Host>) -> Router {
    let routes = Router::new()
        .route("/host/jobs", get(jobs::list))
        .route("/host/jobs/{id}", get(jobs::get).put(jobs::add).delete(jobs::stop))
        .route("/host/jobs/{id}/discoverd-deregister", put(jobs::deregister))
        .route("/host/jobs/{id}/signal/{signal}", put(jobs::signal))
        .route("/host/status", get(status::status))
        .route("/host/health", get(health::health))
        .route("/host/network", post(status::network))
        .route("/host/discoverd", post(status::discoverd))
        .route("/host/tags", post(status::tags))
        .route("/host/members", post(status::members))
        .route("/host/draining", post(status::draining))
        .route("/host/resource-check", post(status::resource_check))
        .route("/host/layers/{id}", get(layers::layer))
        .route("/host/images", get(layers::images))
        .route("/host/images/{id}", get(layers::manifest))
        .route("/attach", post(attach::attach))
        .route("/storage/providers", post(volumes::add_provider))
        .route("/storage/providers/{provider}/volumes", post(volumes::create))
        .route("/storage/volumes", get(volumes::list))
        .route("/storage/volumes/{id}", get(volumes::get).delete(volumes::destroy))
        .route("/storage/volumes/{id}/snapshot", put(volumes::no_snapshot))
        .route("/storage/volumes/{id}/pull_snapshot", post(volumes::no_snapshot))
        .route("/storage/volumes/{id}/send", get(volumes::no_snapshot))
        .route("/sinks", get(sinks::list))
        .route("/sinks/{id}", put(sinks::put).delete(sinks::remove));
    kit_http::finish(routes.with_state(host))
}

/// A job's id in a path; what is no id is no job.
fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| unknown_job())
}

fn unknown_job() -> ApiError {
    ApiError::object_not_found("host: unknown job")
}

/// Events from now on. A subscriber that is too slow is told so, and opens a new stream.
fn event_stream<T>(
    mut events: broadcast::Receiver<T>,
    wanted: impl Fn(&T) -> bool + Send + 'static,
) -> axum::response::Response
where
    T: Serialize + Clone + Send + 'static,
{
    let items = async_stream(move |out| async move {
        loop {
            let item = match events.recv().await {
                Ok(event) if wanted(&event) => sse::Event::json(&event),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    sse::Event::error(format!("{missed} events were missed: subscribe again"))
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if out.send(item).await.is_err() {
                return;
            }
        }
    });
    sse::response(items)
}

/// A stream out of a loop that sends. It runs only while it is read.
fn async_stream<F, Fut>(run: F) -> impl futures_util::Stream<Item = sse::Event> + Send + 'static
where
    F: FnOnce(tokio::sync::mpsc::Sender<sse::Event>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    // One item: the producer runs in the reader's own poll, there is nothing to queue for.
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let mut running = Some(Box::pin(run(sender)));
    futures_util::stream::poll_fn(move |cx| {
        if let Some(future) = &mut running
            && future.as_mut().poll(cx).is_ready()
        {
            running = None;
        }
        receiver.poll_recv(cx)
    })
}

/// What could not be kept was not done. A disk that is full is something its operator can mend.
fn not_kept(error: &StoreError) -> ApiError {
    if !error.is_of_the_disk() {
        return ApiError::internal(error);
    }
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "a change was refused");
    ApiError::service_unavailable(format!("{error}: {cause}"))
}
