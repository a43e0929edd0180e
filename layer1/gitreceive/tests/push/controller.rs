//! A controller as pushes see it: one app, its releases, build jobs that keep what they were sent, a
//! first job that comes up or does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use kit_http::sse::{self, Event};
use kit_tasks::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, watch};

pub(crate) const APP: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
pub(crate) const NAME: &str = "demo";
pub(crate) const BUILDER: &str = "0f0e0d0c-2222-4222-8333-00000000000b";
pub(crate) const RUNNER: &str = "0f0e0d0c-2222-4222-8333-00000000000c";

#[derive(Clone, Debug)]
pub(crate) struct Controller {
    state: Arc<Mutex<Inner>>,
    events: broadcast::Sender<Value>,
    /// Builds do not end while this is true.
    pub(crate) hold: watch::Sender<bool>,
    tasks: Tasks,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Inner {
    /// What the app was deployed as, the current one last.
    pub(crate) releases: Vec<Value>,
    /// Releases that nothing was deployed as yet.
    created: Vec<Value>,
    /// How each deployment ended.
    deployments: BTreeMap<String, Value>,
    events: Vec<Value>,
    pub(crate) formations: BTreeMap<String, u32>,
    pub(crate) builds: Vec<Build>,
    pub(crate) plan: Plan,
    /// Ids of jobs whose end was asked for.
    pub(crate) killed: Vec<String>,
    pub(crate) deleted_formations: u32,
    next: u64,
}

/// What builds do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) output: String,
    pub(crate) exit: u32,
    pub(crate) types: &'static str,
    pub(crate) first_job: &'static str,
    /// Why deployments fail, if they do.
    pub(crate) deploy_error: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        let output = "-----> Static app detected\n       indented\n".to_owned();
        Self { output, exit: 0, types: "web", first_job: "up", deploy_error: None }
    }
}

/// One build job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Build {
    pub(crate) request: Value,
    pub(crate) stdin: Vec<u8>,
    /// The whole source was sent.
    pub(crate) is_fed: bool,
    /// The program ended by itself.
    pub(crate) is_done: bool,
    pub(crate) signals: Vec<u32>,
    /// Nobody is connected any more.
    pub(crate) is_left: bool,
}

impl Controller {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self {
            state: Arc::default(),
            events: broadcast::channel(64).0,
            hold: watch::channel(false).0,
            tasks: tasks.clone(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything as it is now.
    pub(crate) fn snapshot(&self) -> Inner {
        self.state().clone()
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/apps/{app}", get(app))
            .route("/apps/{app}/release", get(current_release))
            .route("/apps/{app}/jobs", post(run_job).get(jobs))
            .route("/apps/{app}/jobs/{id}", delete(kill_job))
            .route("/apps/{app}/deploy", post(deploy))
            .route("/deployments/{id}", get(deployment))
            .route("/apps/{app}/formations/{release}", get(formation).delete(delete_formation))
            .route("/apps/{app}/scale/{release}", put(scale))
            .route("/artifacts/{id}", get(artifact))
            .route("/releases", post(create_release))
            .route("/events", get(events))
            .with_state(self.clone())
    }

    fn id(&self) -> String {
        let mut state = self.state();
        state.next += 1;
        format!("00000000-0000-4000-8000-{:012}", state.next)
    }

    fn tell(&self, kind: &str, object: &str, data: &Value) {
        let mut state = self.state();
        state.next += 1;
        let event = json!({
            "id": state.next, "app": APP, "object_type": kind, "object_id": object, "data": data});
        state.events.push(event.clone());
        // Without a listener nobody needs to hear of it. Sent under the lock: who subscribes under it
        // sees each event once.
        drop(self.events.send(event));
    }
}

type World = State<Controller>;

fn not_found() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

async fn app(State(controller): World, Path(app): Path<String>) -> Response {
    if app != APP && app != NAME {
        return not_found();
    }
    let release = controller.state().releases.last().map(|release| release["id"].clone());
    Json(json!({"id": APP, "name": NAME, "meta": {}, "release": release, "deploy_timeout": 30}))
        .into_response()
}

async fn current_release(State(controller): World) -> Response {
    let release = controller.state().releases.last().cloned();
    release.map_or_else(not_found, |release| Json(release).into_response())
}

async fn artifact(State(controller): World, Path(id): Path<String>) -> Response {
    if id == BUILDER || id == RUNNER {
        return Json(json!({"id": id, "type": "flynn", "uri": "http://x"})).into_response();
    }
    let state = controller.state();
    let is_built = |build: &Build| build.is_done && build.request["env"]["SLUG_IMAGE_ID"] == *id;
    if !state.builds.iter().any(is_built) {
        return not_found();
    }
    let mut meta = json!({"blobstore": "true"});
    if !state.plan.types.is_empty() {
        meta["slugbuilder.process_types"] = json!(state.plan.types);
    }
    Json(json!({"id": id, "type": "flynn", "uri": "http://y", "meta": meta})).into_response()
}

async fn create_release(State(controller): World, Json(mut release): Json<Value>) -> Response {
    release["id"] = json!(controller.id());
    controller.state().created.push(release.clone());
    Json(release).into_response()
}

async fn deploy(State(controller): World, Json(order): Json<Value>) -> Response {
    let id = controller.id();
    let (error, is_first) = {
        let mut state = controller.state();
        let at = state.created.iter().position(|release| release["id"] == order["id"]);
        let Some(at) = at else { return not_found() };
        let release = state.created.remove(at);
        let error = state.plan.deploy_error;
        let is_first = state.releases.is_empty();
        if error.is_none() {
            state.releases.push(release);
        }
        (error, is_first)
    };
    let status = if error.is_some() { "failed" } else { "complete" };
    let ended = json!({"id": id, "status": status, "finished_at": "2026-01-01T00:00:00Z"});
    controller.state().deployments.insert(id.clone(), ended.clone());
    if is_first && error.is_none() {
        return Json(ended).into_response();
    }
    let of = |status| json!({"deployment": id, "status": status, "error": error.unwrap_or("")});
    controller.tell("deployment", &id, &of("pending"));
    controller.tell("deployment", &id, &of(status));
    Json(json!({"id": id, "status": "pending"})).into_response()
}

async fn deployment(State(controller): World, Path(id): Path<String>) -> Response {
    let known = controller.state().deployments.get(&id).cloned();
    known.map_or_else(not_found, |deployment| Json(deployment).into_response())
}

async fn formation(State(controller): World, Path((_, id)): Path<(String, String)>) -> Response {
    match controller.state().formations.get(&id) {
        Some(count) => Json(json!({"release": id, "processes": {"web": count}})).into_response(),
        None => not_found(),
    }
}

async fn delete_formation(
    State(controller): World,
    Path((_, id)): Path<(String, String)>,
) -> Response {
    let mut state = controller.state();
    state.formations.remove(&id);
    state.deleted_formations += 1;
    StatusCode::OK.into_response()
}

async fn scale(
    State(controller): World,
    Path((_, release)): Path<(String, String)>,
    Json(mut request): Json<Value>,
) -> Response {
    let state = controller.state().plan.first_job;
    controller.state().formations.insert(release.clone(), 1);
    let uuid = controller.id();
    for state in ["starting", state] {
        let job =
            json!({"uuid": uuid, "app": APP, "release": release, "type": "web", "state": state});
        controller.tell("job", &uuid, &job);
    }
    request["id"] = json!(controller.id());
    Json(request).into_response()
}

async fn events(
    State(controller): World,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let (past, receiver) = {
        let state = controller.state();
        let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let is_wanted = |event: &&Value| event["id"].as_u64() > after;
        let past = state.events.iter().filter(is_wanted).cloned().collect::<Vec<_>>();
        (past, controller.events.subscribe())
    };
    let past = if query.contains_key("past") { past } else { Vec::new() };
    let matches = move |event: &Value| {
        [("object_types", "object_type"), ("object_id", "object_id")]
            .into_iter()
            .all(|(asked, field)| query.get(asked).is_none_or(|asked| event[field] == **asked))
    };
    let state = (past.into_iter(), receiver);
    let events = futures_util::stream::unfold(state, async |(mut past, mut receiver)| {
        let event = match past.next() {
            Some(event) => event,
            None => receiver.recv().await.ok()?,
        };
        Some((event, (past, receiver)))
    });
    let events = events.filter(move |event| std::future::ready(matches(event)));
    sse::response(Box::pin(events.map(|event| Event::json(&event))))
}

async fn jobs(State(controller): World) -> Response {
    let state = controller.state();
    let jobs = state.builds.iter().enumerate().map(|(at, build)| {
        let ended = build.is_done || !build.signals.is_empty();
        json!({
            "uuid": format!("00000000-0000-4000-9000-{at:012}"),
            "type": "slugbuilder",
            "meta": build.request["meta"],
            "state": if ended { "down" } else { "up" },
        })
    });
    Json(jobs.collect::<Vec<_>>()).into_response()
}

async fn kill_job(State(controller): World, Path((_, id)): Path<(String, String)>) -> Response {
    controller.state().killed.push(id);
    StatusCode::OK.into_response()
}

async fn run_job(State(controller): World, mut request: Request) -> Response {
    let (response, upgrading) = kit_http::accept_upgrade(&mut request, host_api::UPGRADE_PROTOCOL);
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let at = {
        let mut state = controller.state();
        let request = serde_json::from_slice(&body).unwrap();
        state.builds.push(Build { request, ..Build::default() });
        state.builds.len() - 1
    };
    let tasks = controller.tasks.clone();
    tasks.spawn("build", async move {
        let Ok(connection) = upgrading.connection().await else { return };
        let (reader, writer) = tokio::io::split(connection);
        let listening = listen(&controller, at, reader);
        tokio::join!(listening, work(&controller, at, writer));
    });
    response
}

async fn listen(controller: &Controller, at: usize, mut reader: impl tokio::io::AsyncRead + Unpin) {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = ClientFrame::decode(&mut buffer).unwrap() {
            let build = &mut controller.state().builds[at];
            match frame {
                ClientFrame::Stdin(bytes) if bytes.is_empty() => build.is_fed = true,
                ClientFrame::Stdin(bytes) => build.stdin.extend_from_slice(&bytes),
                ClientFrame::Signal(number) => build.signals.push(number),
                ClientFrame::Resize { .. } => {}
            }
        }
        if reader.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            controller.state().builds[at].is_left = true;
            return;
        }
    }
}

/// Works on the source once it is whole, ends when it may; ends early when asked to.
async fn work(controller: &Controller, at: usize, mut writer: impl tokio::io::AsyncWrite + Unpin) {
    let plan = controller.state().plan.clone();
    let status = loop {
        let build = controller.state().builds[at].clone_state();
        let held = *controller.hold.borrow();
        match build {
            (_, true, _) | (_, _, true) => break None,
            (true, false, false) if !held => break Some(plan.exit),
            _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    let Some(status) = status else { return };
    controller.state().builds[at].is_done = status == 0;
    // The split shows that lines do not come in whole frames.
    let bytes = Bytes::from(plan.output.into_bytes());
    let half = bytes.len() / 2;
    let frames = [
        ServerFrame::Data(Stream::Stdout, bytes.slice(..half)),
        ServerFrame::Data(Stream::Stdout, bytes.slice(half..)),
        ServerFrame::Exit(status),
    ];
    for frame in frames {
        writer.write_all(&frame.encode()).await.unwrap();
    }
    writer.flush().await.unwrap();
}

impl Build {
    fn clone_state(&self) -> (bool, bool, bool) {
        (self.is_fed, !self.signals.is_empty(), self.is_left)
    }

    /// The files of the source, with their modes; directories end with a slash.
    pub(crate) fn files(&self) -> BTreeMap<Vec<u8>, Entry> {
        let mut archive = tar::Archive::new(&self.stdin[..]);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            let header = entry.header();
            let found = Entry {
                mode: header.mode().unwrap(),
                time: header.mtime().unwrap(),
                link: entry.link_name_bytes().map(std::borrow::Cow::into_owned),
                bytes,
            };
            (entry.path_bytes().into_owned(), found)
        };
        archive.entries().unwrap().map(read).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) time: u64,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) bytes: Vec<u8>,
}

/// Waits until the newest build has reached some state.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let all = async {
        while !reached() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}
