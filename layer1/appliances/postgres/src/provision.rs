//! The provisioning API, service `postgres-api` (spec/appliances.md §9).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use kit_http::{ApiError, Json, Query, Status, finish, serve, status_router};
use kit_tasks::{Running, Tasks};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::databases::{self, Database};
pub use crate::databases::{Connection, Secret};

/// What the provisioner needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: std::net::SocketAddr,
    /// The service name apps get as FLYNN_POSTGRES.
    pub service: String,
    /// How the server is reached.
    pub connection: Connection,
    /// Version shown by the status.
    pub version: String,
}

/// A made resource, as the controller expects it.
#[derive(Debug, Serialize)]
struct Resource {
    id: String,
    env: BTreeMap<&'static str, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Id {
    #[serde(default)]
    id: String,
}

#[derive(Debug)]
struct Provisioner {
    config: Config,
    tasks: Tasks,
}

/// Starts the API. It listens whether or not the server is there.
pub async fn start(config: Config, tasks: &Tasks) -> std::io::Result<Running> {
    let listener = TcpListener::bind(config.listen).await?;
    let node = tasks.child("postgres-api");
    let version = config.version.clone();
    let state = Arc::new(Provisioner { config, tasks: node.clone() });
    let for_status = state.clone();
    let health = move || {
        let state = for_status.clone();
        async move { state.health().await }
    };
    let router = Router::new()
        .route("/databases", post(create).delete(delete))
        .route("/ping", get(ping))
        .with_state(state)
        .merge(status_router(&version, health));
    serve(&node, listener, finish(router))
}

impl Provisioner {
    async fn health(&self) -> Status {
        match databases::ping(&self.tasks, &self.config.connection).await {
            Ok(()) => Status::healthy(),
            Err(error) => Status::unhealthy(error.message),
        }
    }

    fn resource(&self, database: &Database) -> Resource {
        let Connection { host, port, .. } = &self.config.connection;
        let Database { user, password, name } = database;
        let url = format!("postgres://{user}:{}@{host}:{port}/{name}", password.0);
        let env = BTreeMap::from([
            ("FLYNN_POSTGRES", self.config.service.clone()),
            ("PGHOST", host.clone()),
            ("PGUSER", user.clone()),
            ("PGPASSWORD", password.0.clone()),
            ("PGDATABASE", name.clone()),
            ("DATABASE_URL", url),
        ]);
        Resource { id: database.id(), env }
    }
}

async fn create(State(state): State<Arc<Provisioner>>) -> Result<Json<Resource>, ApiError> {
    let database = Database::random();
    databases::create(&state.tasks, &state.config.connection, &database).await?;
    Ok(Json(state.resource(&database)))
}

async fn delete(
    State(state): State<Arc<Provisioner>>,
    Query(Id { id }): Query<Id>,
) -> Result<impl IntoResponse, ApiError> {
    let (user, name) = databases::parse_id(&id)?;
    databases::drop_database(&state.tasks, &state.config.connection, &user, &name).await
}

async fn ping(State(state): State<Arc<Provisioner>>) -> Result<impl IntoResponse, ApiError> {
    databases::ping(&state.tasks, &state.config.connection).await
}
