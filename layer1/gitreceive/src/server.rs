//! The server: what is checked in which order, how many may push at once, and who waits for whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use controller_api::Client;
use kit_http::{Status, status_router};
use kit_ids::AppId;
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use uuid::Uuid;

use crate::ask::{Ask, Refusal, Service, Wish, is_admitted};
use crate::config::Config;
use crate::orphans::{self, Pushes};
use crate::places::Places;
use crate::repository::{Repositories, Repository};
use crate::session::{self, Ending, Input, OUTPUT_BOUND, Output};
use crate::settings::SettingsError;
use crate::ssh;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not to be had.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// The directory cannot be used.
    #[error("cannot use directory {directory}")]
    Directory {
        /// Which.
        directory: String,
        /// Why.
        source: std::io::Error,
    },
    /// A client cannot be made.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Starts the server. It listens at once, whether or not controller and blob store are there.
///
/// # Errors
/// When it cannot listen or has no directory to work in.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let node = tasks.child("gitreceive");
    let prepared = Places::prepare(&config).and_then(|places| {
        ssh::write_files(&config.settings)?;
        Ok(places)
    });
    let places = prepared.map_err(|source| {
        let directory = config.directory.display().to_string();
        StartError::Directory { directory, source }
    })?;
    let listener = TcpListener::bind(config.listen).await.map_err(StartError::Listen)?;
    let controller = config.settings.controller()?;
    let blobs = config.settings.blobs()?;
    let pushes = Pushes::default();
    orphans::start(controller.clone(), &config.settings, pushes.clone(), &node);
    let server = Server(Arc::new(Inner {
        repositories: Repositories { places, blobs, limit: config.limits.repository },
        controller,
        pushes,
        turns: Turns::default(),
        push_places: Arc::new(Semaphore::new(config.limits.pushes)),
        read_places: Arc::new(Semaphore::new(config.limits.reads)),
        tasks: node.clone(),
        config,
    }));
    let version = server.0.config.version.clone();
    let router = Router::new().fallback(answer).with_state(server);
    // Nothing it depends on being away makes this server useless for long, so it is well while it runs.
    let router = status_router(&version, async || Status::healthy()).merge(router);
    let running = kit_http::serve(&node, listener, router).map_err(StartError::Listen)?;
    Ok(Running { addrs: running.addrs, tasks: node })
}

#[derive(Clone, Debug)]
struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    repositories: Repositories,
    controller: Client,
    pushes: Pushes,
    turns: Turns,
    push_places: Arc<Semaphore>,
    read_places: Arc<Semaphore>,
    tasks: Tasks,
}

async fn answer(State(server): State<Server>, request: Request<Body>) -> Response {
    server.respond(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Server {
    /// The order of the checks is part of what clients see (spec/pipeline.md §3).
    async fn respond(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        if !is_admitted(&parts.headers, self.0.config.settings.keys()) {
            return Err(Refusal::Unauthorized);
        }
        let query = parts.uri.query().unwrap_or_default();
        let ask = Ask::parse(&parts.method, parts.uri.path(), query).ok_or(Refusal::Forbidden)?;
        let app = self.app(&ask.app).await?;
        match ask.wish {
            Wish::Advertisement(service) => self.advertise(&app, service).await,
            Wish::Rpc(service) => self.serve(app, service, &parts.headers, body).await,
        }
    }

    async fn app(&self, name: &str) -> Result<AppId, Refusal> {
        match self.0.controller.app(name).await {
            Ok(app) => app.id.ok_or(Refusal::Internal),
            Err(error) if error.is_not_found() => Err(Refusal::UnknownApp),
            Err(error) => Err(internal("the controller was asked for an app", &error)),
        }
    }

    async fn advertise(&self, app: &AppId, service: Option<Service>) -> Result<Response, Refusal> {
        let _place = self.place(&self.0.read_places).await?;
        let repository = self.open(app).await?;
        let service = service.ok_or(Refusal::DumbProtocol)?;
        let args = [service.command(), "--stateless-rpc", "--advertise-refs", "."];
        let refs = repository.git.output(&args).await;
        let refs = refs.map_err(|error| internal("git was asked for its refs", &error))?;
        let mut bytes = packet(&format!("# service={}\n", service.name())).into_bytes();
        bytes.extend_from_slice(b"0000");
        bytes.extend_from_slice(&refs);
        Ok(respond(&format!("application/x-{}-advertisement", service.name()), Body::from(bytes)))
    }

    async fn serve(
        &self,
        app: AppId,
        service: Service,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let claim = self.claim(&app, service).await?;
        let repository = self.open(&app).await?;
        let is_gzip = headers.get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        let input = Input::open(body, is_gzip, self.0.config.limits).await;
        let input = input.ok_or(Refusal::NotGzip)?;
        let (output, pieces) = mpsc::channel(OUTPUT_BOUND);
        let server = self.clone();
        // The task's end, not the request's, is the end of a push: a client that goes away is noticed
        // in it, and what was deployed is stored although nobody listens any more.
        self.0.tasks.spawn("session", async move {
            server.session(repository, service, input, &output).await;
            drop(claim);
        });
        let body = Body::from_stream(tokio_stream(pieces));
        Ok(respond(&format!("application/x-{}-result", service.name()), body))
    }

    async fn session(
        &self,
        repository: Repository,
        service: Service,
        input: Input,
        output: &Output,
    ) {
        let push = Uuid::new_v4().to_string();
        let mut command = repository.git.command([service.command(), "--stateless-rpc", "."]);
        let _under_way = match service {
            Service::ReceivePack => {
                command.envs(self.0.config.settings.variables());
                command.env("RECEIVE_APP", repository.app().as_str()).env("RECEIVE_PUSH", &push);
                Some(self.0.pushes.enter(push))
            }
            Service::UploadPack => None,
        };
        let limits = self.0.config.limits;
        let ending = session::run(command, input, output, limits, self.0.tasks.stopping()).await;
        let app = repository.app().clone();
        match ending {
            Ok(Ending::Success) if service == Service::ReceivePack => {
                // The response ends only afterwards: the next push of this client finds what it sent.
                if let Err(error) = self.0.repositories.store(repository).await {
                    tracing::error!(%app, error = %chain(&error), "a repository was not stored");
                }
            }
            Ok(Ending::Success | Ending::Failure) => {}
            Ok(Ending::Cancelled(reason)) => {
                tracing::info!(%app, reason, "git was ended");
                let broken = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, reason);
                // A client that is gone hears nothing.
                drop(output.try_send(Err(broken)));
            }
            Err(error) => tracing::error!(%app, %error, "git could not be run"),
        }
    }

    /// A place among those who work at the same time; for a push also the app's turn.
    async fn claim(&self, app: &AppId, service: Service) -> Result<Claim, Refusal> {
        match service {
            Service::UploadPack => {
                let place = self.place(&self.0.read_places).await?;
                Ok(Claim { _turn: None, _place: place })
            }
            Service::ReceivePack => {
                let turn = timeout(self.0.config.limits.queue, self.0.turns.wait(app)).await;
                let turn = turn.map_err(|_| Refusal::Busy)?;
                let place = self.place(&self.0.push_places).await?;
                Ok(Claim { _turn: Some(turn), _place: place })
            }
        }
    }

    async fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(self.0.config.limits.queue, places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }

    async fn open(&self, app: &AppId) -> Result<Repository, Refusal> {
        let opened = self.0.repositories.open(app).await;
        opened.map_err(|error| internal("a repository was opened", &error))
    }
}

/// Held while a service works.
#[derive(Debug)]
struct Claim {
    _turn: Option<OwnedMutexGuard<()>>,
    _place: OwnedSemaphorePermit,
}

/// One push at a time for each app.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<AppId, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn wait(&self, app: &AppId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(app).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(app.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

fn respond(content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A packet line: its length in four hex digits, which count too.
fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn tokio_stream<T: Send + 'static>(
    receiver: mpsc::Receiver<T>,
) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::unfold(receiver, async |mut receiver| {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}

fn internal(doing: &str, error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = %chain(error), "failed when {doing}");
    Refusal::Internal
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_counts_itself() {
        assert_eq!(packet("# service=git-upload-pack\n"), "001e# service=git-upload-pack\n");
        assert_eq!(packet("# service=git-receive-pack\n"), "001f# service=git-receive-pack\n");
    }
}
