//! The peer: one PostgreSQL server on a data volume, known to discoverd, kept running.
//!
//! The server is started only for who is the cluster's primary: either this volume was primary before
//! (then nobody is asked, so that the database is back after a power cut before discoverd is), or
//! discoverd's metadata says so, or there is no cluster yet and this peer makes it. A peer of somebody
//! else's cluster runs no server and says why.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use discoverd_api::{Client, Instance, LeaderType, ServiceConfig, ServiceMeta};
use kit_backoff::Backoff;
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::accounts::Account;
use crate::cluster::ClusterState;
use crate::databases::Secret;
use crate::server::{self, Place, Server, ServerError};
use crate::settings::Settings;
use crate::sql::{self, Report};
use crate::{identity, orphans, status};

/// The metadata key of a peer's persistent id.
pub const ID_KEY: &str = "POSTGRES_ID";

const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// What a peer needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the service in discoverd.
    pub service: String,
    /// Port of the database.
    pub port: u16,
    /// Where the peer's own HTTP API listens.
    pub http: SocketAddr,
    /// The address other jobs reach the database at.
    pub external_ip: String,
    /// The data volume; the database lies in `db` below it.
    pub volume: PathBuf,
    /// Directory of the unix socket.
    pub socket_dir: PathBuf,
    /// Who runs the server; looked up as `postgres` when absent.
    pub account: Option<Account>,
    /// Password of the platform's superuser.
    pub password: Secret,
    /// Metadata of the instance beside its id: FLYNN_JOB_ID and the like.
    pub meta: Vec<(String, String)>,
    /// Version shown by the status.
    pub version: String,
}

/// What is known about the peer; shown by its API.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub id: String,
    pub role: Role,
    pub state: Option<ClusterState>,
    pub running: bool,
    pub report: Report,
    pub problem: Option<String>,
}

/// A peer's place in the chain, as far as a cluster of one has places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not decided yet.
    #[default]
    Unknown,
    /// Runs the server.
    Primary,
    /// Another peer is the primary.
    Unassigned,
}

/// Starts the peer. Its API listens at once; the server follows when it may.
pub async fn start(config: Config, discoverd: Client, tasks: &Tasks) -> std::io::Result<Running> {
    orphans::adopt()?;
    let listener = TcpListener::bind(config.http).await?;
    let node = tasks.child("postgres");
    let (views, view) = watch::channel(View::default());
    let stop = node.child("server");
    let running = status::serve(&node, listener, view, stop.clone(), &config.version)?;
    let peer = Peer { config, discoverd, tasks: node.clone(), views };
    stop.spawn("peer", {
        let stop = stop.clone();
        async move { peer.run(&stop).await }
    });
    Ok(running)
}

#[derive(Debug)]
struct Peer {
    config: Config,
    discoverd: Client,
    tasks: Tasks,
    views: watch::Sender<View>,
}

/// Why the server is not started, or not any more.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("the server does not start")]
    Server(#[from] ServerError),
    #[error("no account for the server")]
    Account(#[from] crate::accounts::AccountError),
    #[error("the volume is not usable")]
    Volume(#[from] std::io::Error),
    #[error("discoverd was not asked")]
    Discoverd(#[from] discoverd_api::DiscoverdError),
    #[error("the cluster's state is not readable")]
    State(#[from] serde_json::Error),
    #[error("the server does not answer")]
    Sql(#[from] sql::SqlError),
    #[error("the server ended: {0}")]
    Ended(std::process::ExitStatus),
    #[error("another peer is the primary of this cluster; this one stays unassigned")]
    NotPrimary,
}

impl Peer {
    /// Runs the server until stopped, again after every failure.
    async fn run(self, stop: &Tasks) {
        let seed = u64::from(std::process::id());
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), seed);
        let mut claimed = Claim::default();
        while !stop.is_stopping() {
            let error = match self.attempt(stop, &mut claimed, &mut pause).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let text = chain(&error);
            tracing::warn!(error = %text, attempts = pause.attempts(), "the database is not running");
            self.views.send_modify(|view| {
                view.running = false;
                view.problem = Some(text);
            });
            let delay = pause.next_delay();
            tokio::select! {
                () = stop.stopping() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One life of the server; `Ok` when it was stopped on request.
    async fn attempt(
        &self,
        stop: &Tasks,
        claim: &mut Claim,
        pause: &mut Backoff,
    ) -> Result<(), PeerError> {
        let id = identity::load_or_make(&self.config.volume)?;
        self.views.send_modify(|view| view.id.clone_from(&id));
        if !identity::was_primary(&self.config.volume) {
            self.claim(&id, claim).await?;
        }
        let account = match self.config.account {
            Some(account) => account,
            None => Account::named("postgres")?,
        };
        let socket_dir = self.config.socket_dir.to_string_lossy().into_owned();
        let settings = Settings { port: self.config.port, socket_dir, id: id.clone() };
        let place =
            Place { bin: server::installed()?, data: self.config.volume.join("db"), account };
        let mut server = Server::start(&place, &settings).await?;
        self.views.send_modify(|view| view.role = Role::Primary);
        let ended = tokio::select! {
            () = stop.stopping() => None,
            error = self.serve(&id, claim, pause) => Some(error),
            status = server.ended() => Some(status.map_or_else(PeerError::from, PeerError::Ended)),
        };
        server.stop().await;
        self.views.send_modify(|view| view.running = false);
        if ended.is_none() {
            claim.end().await;
        }
        ended.map_or(Ok(()), Err)
    }

    /// What happens while the server runs: prepare it, claim the cluster, keep asking how it is.
    async fn serve(&self, id: &str, claim: &mut Claim, pause: &mut Backoff) -> PeerError {
        let mut client = None;
        let mut prepared = false;
        loop {
            let asked = self.ask(&mut client, &mut prepared).await;
            match asked {
                Ok(report) => {
                    pause.reset();
                    self.views.send_modify(|view| {
                        (view.running, view.problem, view.report) = (true, None, report);
                    });
                    if let Err(error) = self.claim(id, claim).await {
                        if matches!(error, PeerError::NotPrimary) {
                            return error;
                        }
                        tracing::debug!(error = %chain(&error), "the cluster is not claimed yet");
                    }
                }
                Err(error) => {
                    client = None;
                    self.views.send_modify(|view| view.problem = Some(chain(&error)));
                }
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    async fn ask(
        &self,
        client: &mut Option<tokio_postgres::Client>,
        prepared: &mut bool,
    ) -> Result<Report, PeerError> {
        let connected = match client {
            Some(connected) => connected,
            None => {
                let socket_dir = self.config.socket_dir.to_string_lossy();
                client.insert(sql::connect(&self.tasks, &socket_dir, self.config.port).await?)
            }
        };
        if !*prepared {
            sql::ensure_platform_user(connected, &self.config.password.0).await?;
            *prepared = true;
        }
        Ok(sql::report(connected).await?)
    }

    /// Makes sure discoverd knows this peer as the primary, once per life of the server.
    async fn claim(&self, id: &str, claim: &mut Claim) -> Result<(), PeerError> {
        if claim.done && claim.heartbeat.is_some() {
            return Ok(());
        }
        let service = &self.config.service;
        let config = ServiceConfig { leader_type: LeaderType::Manual };
        let me = self.instance(id);
        if claim.heartbeat.is_none() {
            claim.heartbeat =
                Some(self.discoverd.announce(&self.tasks, service, config, me.clone()));
        }
        let meta = self.discoverd.meta(service).await?;
        let state = match &meta {
            Some(meta) => Some(meta.parse::<ClusterState>()?),
            None => None,
        };
        let wanted = match state {
            Some(state) if !state.is_primary(id) => {
                self.views.send_modify(|view| {
                    (view.role, view.state) = (Role::Unassigned, Some(state));
                });
                return Err(PeerError::NotPrimary);
            }
            Some(state) => ClusterState { primary: Some(me.clone()), ..state },
            None => {
                let now = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
                ClusterState::singleton(me.clone(), now)
            }
        };
        let index = meta.map_or(0, |meta| meta.index);
        let update = ServiceMeta::replace(index, &wanted)?.with_leader(me.id);
        self.discoverd.set_meta(service, &update).await?;
        identity::note_primary(&self.config.volume)?;
        claim.done = true;
        self.views.send_modify(|view| view.state = Some(wanted));
        Ok(())
    }

    fn instance(&self, id: &str) -> Instance {
        let addr = format!("{}:{}", self.config.external_ip, self.config.port);
        let named = Instance::new("tcp", &addr).with_meta(ID_KEY, id);
        self.config.meta.iter().fold(named, |me, (key, value)| me.with_meta(key, value))
    }
}

/// How far this peer's claim on the cluster is.
#[derive(Debug, Default)]
struct Claim {
    heartbeat: Option<discoverd_api::Heartbeat>,
    done: bool,
}

impl Claim {
    /// Takes the instance out of discoverd.
    async fn end(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.close().await;
        }
    }
}

/// An error with its causes, for people.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
