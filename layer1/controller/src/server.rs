//! The server: listens at once, brings the schema up to date in the background, and answers
//! `service_unavailable` until that is done.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use discoverd_api::{Instance, ServiceConfig};
use http::header::CONTENT_TYPE;
use kit_backoff::Backoff;
use kit_http::{ClientError, Status};
use kit_pg::{Client, Migrations, PgError, Pool};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::hosts::{Hosts, http_client};
use crate::hub::Hub;
use crate::{
    app_deletion, apps, artifacts, auth, deployments, events, formations, jobs, log, providers,
    release_deletion, releases, resources, routes, run, scaling, turns, volumes,
};

/// The service the controller registers itself in.
const SERVICE: &str = "controller";

/// The channel on which the database says that there are new events.
const EVENTS: &str = "events";

/// The schema, brought up to date by whichever process comes first.
pub(crate) const MIGRATIONS: Migrations = &[
    ("V1__objects", include_str!("../migrations/V1__objects.sql")),
    ("V2__worker", include_str!("../migrations/V2__worker.sql")),
    ("V3__scheduler_turn", include_str!("../migrations/V3__scheduler_turn.sql")),
];

/// Why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The pool could not be made.
    #[error("the database pool cannot be made")]
    Pool(#[source] PgError),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Http(#[source] ClientError),
}

/// Starts the controller below `tasks`. It listens when this returns, whether or not its database is
/// there; what it can do without is refused with `service_unavailable` until then.
///
/// # Errors
/// When it cannot listen.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let tasks = tasks.child("controller");
    let addr = config.listen;
    let listener = TcpListener::bind(addr).await;
    let listener = listener.map_err(|source| StartError::Listen { addr, source })?;
    let pool = Pool::new(&config.database, kit_pg::DEFAULT_SIZE).map_err(StartError::Pool)?;
    let http = http_client(config.discoverd.as_ref()).map_err(StartError::Http)?;
    let (ready, is_ready) = watch::channel(false);
    let controller = Controller(Arc::new(Inner {
        hosts: Hosts::new(config.discoverd.clone()),
        hub: Hub::new(),
        tasks: tasks.clone(),
        config,
        pool,
        http,
        is_ready,
    }));
    tasks.spawn_until_stop("prepare", prepare(controller.clone(), ready));
    register(&controller, &tasks);
    let running = kit_http::serve(&tasks, listener, router(controller));
    let running = running.map_err(|source| StartError::Listen { addr, source })?;
    Ok(Running { addrs: running.addrs, tasks })
}

/// What handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Controller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    pool: Pool,
    hosts: Hosts,
    hub: Hub,
    http: kit_http::Client,
    tasks: Tasks,
    is_ready: watch::Receiver<bool>,
}

impl Controller {
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// A database connection.
    pub(crate) async fn client(&self) -> Result<Client, PgError> {
        self.0.pool.client().await
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// For calls to providers and manifests.
    pub(crate) fn http(&self) -> &kit_http::Client {
        &self.0.http
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Whether the schema is there.
    pub(crate) fn is_ready(&self) -> bool {
        *self.0.is_ready.borrow()
    }
}

/// Migrates until it worked, then follows the events.
async fn prepare(controller: Controller, ready: watch::Sender<bool>) {
    let (database, pool) = (&controller.config().database, &controller.0.pool);
    let mut pause =
        Backoff::new(Duration::from_millis(200), Duration::from_secs(5), rand::random());
    while let Err(error) = kit_pg::migrate(database, MIGRATIONS).await {
        tracing::warn!(%error, cause = ?std::error::Error::source(&error), "the database is not ready, trying again");
        tokio::time::sleep(pause.next_delay()).await;
    }
    let listener = kit_pg::listen(controller.tasks(), database, EVENTS);
    controller.hub().start(controller.tasks(), pool, listener).await;
    ready.send_replace(true);
    tracing::info!("ready");
}

/// Makes the controller known. The key in the metadata is what old routers look for there; only system
/// jobs can read it.
fn register(controller: &Controller, tasks: &Tasks) {
    let config = controller.config();
    let (Some(discoverd), Some(addr)) = (&config.discoverd, config.advertise) else { return };
    let key = config.keys.first().unwrap_or_default();
    let instance = Instance::new("http", &addr.to_string()).with_meta("AUTH_KEY", key);
    // The task keeps the registration alive; the handle is only for ending it early.
    drop(discoverd.announce(tasks, SERVICE, ServiceConfig::default(), instance));
}

fn router(controller: Controller) -> Router {
    let state = controller.clone();
    let health = move || health(controller.clone());
    let routes = Router::new()
        .merge(app_routes())
        .merge(object_routes())
        .merge(kit_http::status_router(&state.config().version.clone(), health))
        .with_state(state.clone());
    // Outermost: without a key nobody learns which paths exist.
    kit_http::finish(routes).layer(from_fn_with_state(state, auth::admit))
}

/// What belongs to an app.
fn app_routes() -> Router<Controller> {
    Router::new()
        .route("/apps", post(apps::create).get(apps::list))
        .route("/apps/{app}", post(apps::update).get(apps::get).delete(app_deletion::delete))
        .route("/apps/{app}/meta", post(apps::update_meta))
        .route("/apps/{app}/release", get(releases::current).put(releases::set_current))
        .route("/apps/{app}/releases", get(releases::list_of_app))
        .route("/apps/{app}/releases/{id}", delete(release_deletion::delete))
        .route("/apps/{app}/gc", post(release_deletion::collect))
        .route("/apps/{app}/formations", get(formations::list_of_app))
        .route(
            "/apps/{app}/formations/{release}",
            put(formations::put).get(formations::get).delete(formations::delete),
        )
        .route("/apps/{app}/scale/{release}", put(scaling::put))
        .route("/apps/{app}/jobs", post(run::run).get(jobs::list_of_app))
        .route("/apps/{app}/jobs/{id}", put(jobs::put).get(jobs::get).delete(run::kill))
        .route("/apps/{app}/log", get(log::get))
        .route("/apps/{app}/deploy", post(deployments::create))
        .route("/apps/{app}/deployments", get(deployments::list_of_app))
        .route("/apps/{app}/resources", get(resources::list_of_app))
        .route("/apps/{app}/routes", post(routes::create).get(routes::list_of_app))
        .route(
            "/apps/{app}/routes/{kind}/{id}",
            get(routes::get).put(routes::update).delete(routes::delete),
        )
        .route("/apps/{app}/volumes", get(volumes::list_of_app))
        .route("/apps/{app}/volumes/{id}", get(volumes::get))
        .route("/apps/{app}/volumes/{id}/decommission", put(volumes::decommission))
}

/// What stands for itself.
fn object_routes() -> Router<Controller> {
    Router::new()
        .route("/artifacts", post(artifacts::create).get(artifacts::list))
        .route("/artifacts/{id}", get(artifacts::get))
        .route("/releases", post(releases::create).get(releases::list))
        .route("/releases/{id}", get(releases::get))
        .route("/formations", get(formations::list))
        .route("/active-jobs", get(jobs::list_active))
        .route("/scheduler-turns", post(turns::begin))
        .route("/deployments/{id}", get(deployments::get))
        .route("/events", get(events::list_or_stream))
        .route("/events/{id}", get(events::get))
        .route("/routes", get(routes::list))
        .route("/providers", post(providers::create).get(providers::list))
        .route("/providers/{provider}", get(providers::get))
        .route(
            "/providers/{provider}/resources",
            post(resources::provision).get(resources::list_of_provider),
        )
        .route(
            "/providers/{provider}/resources/{id}",
            get(resources::get).put(resources::put).delete(resources::delete),
        )
        .route(
            "/providers/{provider}/resources/{id}/apps/{app}",
            put(resources::add_app).merge(delete(resources::remove_app)),
        )
        .route("/resources", get(resources::list))
        .route("/volumes", get(volumes::list))
        .route("/volumes/{id}", put(volumes::put))
        .route("/ca-cert", get(ca_cert))
}

async fn ca_cert(State(controller): State<Controller>) -> Response {
    let pem = controller.config().ca_cert.clone();
    ([(CONTENT_TYPE, "application/x-x509-ca-cert")], pem).into_response()
}

async fn health(controller: Controller) -> Status {
    if !controller.is_ready() {
        return Status::unhealthy("the database is not available yet");
    }
    match controller.0.pool.check().await {
        Ok(()) => Status::healthy(),
        Err(error) => Status::unhealthy(error.to_string()),
    }
}
