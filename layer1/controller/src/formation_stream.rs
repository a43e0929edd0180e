//! The stream of formations (spec/controller.md §5): what changed since a time, an empty object, then
//! every formation as it changes, read anew when it is sent.

use axum::response::Response;
use controller_api::{Event, EventType, ExpandedFormation, ScaleRequest, Timestamp};
use futures_util::StreamExt as _;
use kit_http::sse;
use tokio::sync::mpsc;

use crate::failure::{Answer, Failure};
use crate::formations;
use crate::hub::Subscription;
use crate::server::Controller;

/// Items on their way to a client. A slow client holds its own task back; what it misses in the hub's
/// buffer meanwhile ends its stream with an error.
const BUFFER: usize = 16;

/// The stream as an answer.
pub(crate) fn respond(controller: &Controller, since: &str) -> Response {
    let since = match since.parse::<Timestamp>() {
        Ok(since) => since,
        Err(_) => return sse::response(futures_util::stream::iter([bad_since(since)])),
    };
    let (to_client, items) = mpsc::channel(BUFFER);
    let (controller, subscription) = (controller.clone(), controller.hub().subscribe());
    let tasks = controller.tasks().clone();
    tasks.spawn_until_stop("formation-stream", async move {
        let feed = feed(&controller, subscription, since, &to_client);
        tokio::select! {
            ended = feed => if let Err(error) = ended {
                drop(to_client.send(error).await);
            },
            () = to_client.closed() => {}
        }
    });
    sse::response(tokio_stream::wrappers::ReceiverStream::new(items).fuse())
}

fn bad_since(since: &str) -> sse::Event {
    sse::Event::error(format!(
        "parsing time \"{since}\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"{since}\" as \"2006\""
    ))
}

/// Feeds one client until it is gone; the error is the stream's last item.
async fn feed(
    controller: &Controller,
    mut subscription: Subscription,
    since: Timestamp,
    to_client: &mpsc::Sender<sse::Event>,
) -> Result<(), sse::Event> {
    let existing = existing(controller, since).await.map_err(|failure| unavailable(&failure))?;
    let sentinel = ExpandedFormation::default();
    for formation in existing.iter().chain([&sentinel]) {
        if to_client.send(sse::Event::json(formation)).await.is_err() {
            return Ok(());
        }
    }
    loop {
        let event =
            subscription.next_event().await.map_err(|lost| sse::Event::error(lost.to_string()))?;
        let changed = changed(controller, &event).await.map_err(|failure| unavailable(&failure))?;
        // A time in the future holds back what is older than it.
        let Some(formation) = changed.filter(|formation| formation.updated_at >= since) else {
            continue;
        };
        if to_client.send(sse::Event::json(&formation)).await.is_err() {
            return Ok(());
        }
    }
}

async fn existing(controller: &Controller, since: Timestamp) -> Answer<Vec<ExpandedFormation>> {
    let mut client = controller.client().await?;
    formations::changed_since(&kit_pg::snapshot(&mut client).await?, since).await
}

/// The formation an event is about, if it is about one.
async fn changed(controller: &Controller, event: &Event) -> Answer<Option<ExpandedFormation>> {
    if event.object_type != Some(EventType::ScaleRequest) {
        return Ok(None);
    }
    let Ok(request) = event.data_as::<ScaleRequest>() else { return Ok(None) };
    let (Some(app), Some(release)) = (request.app, request.release) else { return Ok(None) };
    let mut client = controller.client().await?;
    let client = kit_pg::snapshot(&mut client).await?;
    formations::expanded(&client, app.as_str(), release.as_str()).await.or_else(|failure| {
        match failure {
            // Its release was deleted meanwhile.
            Failure::NotFound => Ok(None),
            failure @ Failure::Api(_) => Err(failure),
        }
    })
}

fn unavailable(failure: &Failure) -> sse::Event {
    sse::Event::error(match failure {
        Failure::NotFound => "the object is gone".to_owned(),
        Failure::Api(error) => error.message.clone(),
    })
}
