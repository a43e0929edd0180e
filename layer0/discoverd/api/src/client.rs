//! The typed client: one method for each thing discoverd does.
//!
//! Calls are repeated over all servers for ten seconds while none can be reached or an error asks for it.
//! Every request but the compare-and-swap of metadata is also repeated when its connection broke, because
//! doing it twice changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use kit_backoff::Backoff;
use kit_http::{ClientError, ErrorCode, Request};
use kit_tasks::Tasks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    Heartbeat, Instance, InstanceId, LastIndex, LeaderChange, Leaders, RaftLeader, RaftMember,
    Rebuild, Servers, ServiceConfig, ServiceMeta, Watch,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change of voters may take: a new one catches up first.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a call is repeated.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// The first pause between two tries; pauses grow to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long [`Client::ensure_service`] and [`Client::register`] try, whatever the error.
const SETUP_FOR: Duration = Duration::from_secs(60);

/// Why a call to discoverd failed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverdError {
    /// The request failed, or discoverd refused it.
    #[error(transparent)]
    Http(#[from] ClientError),
    /// No instance came up in time.
    #[error("discoverd: timed out waiting for instances")]
    NoInstances {
        /// The service.
        service: String,
        /// How long was waited.
        within: Duration,
    },
}

impl DiscoverdError {
    /// The code discoverd refused with, if it answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Http(error) => error.api_code(),
            Self::NoInstances { .. } => None,
        }
    }

    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Http(error) => error.is_not_found(),
            Self::NoInstances { .. } => false,
        }
    }
}

/// A client of a cluster's discoverd. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: kit_http::Client,
}

impl Client {
    /// A client of these servers.
    pub fn new(servers: &Servers) -> Result<Self, DiscoverdError> {
        let http = kit_http::Client::builder_any(servers.urls().iter().cloned());
        Ok(Self { http: http.request_timeout(REQUEST_TIMEOUT).build()? })
    }

    /// A client of the servers the variable `DISCOVERD` names.
    pub fn from_env() -> Result<Self, DiscoverdError> {
        Self::new(&Servers::from_env())
    }

    /// Adds a service; one that exists is an error with [`ErrorCode::ObjectExists`].
    pub async fn add_service(
        &self,
        service: &str,
        config: ServiceConfig,
    ) -> Result<(), DiscoverdError> {
        self.change(Method::PUT, &path(service, ""), &config).await
    }

    /// Sees to it that a service exists, however it is configured. Tries for a minute.
    pub async fn ensure_service(
        &self,
        service: &str,
        config: ServiceConfig,
    ) -> Result<(), DiscoverdError> {
        patiently(|| async {
            match self.add_service(service, config).await {
                Err(error) if error.code() == Some(ErrorCode::ObjectExists) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Removes a service with all that belongs to it.
    pub async fn remove_service(&self, service: &str) -> Result<(), DiscoverdError> {
        self.call(|| Ok(Request::new(Method::DELETE, &path(service, "")))).await
    }

    /// The instances of a service, oldest first; none when the service does not exist.
    pub async fn instances(&self, service: &str) -> Result<Vec<Instance>, DiscoverdError> {
        let found = self.get(&path(service, "/instances")).await;
        found.map(Option::unwrap_or_default)
    }

    /// The instances of a service as soon as there are any.
    pub async fn instances_wait(
        &self,
        service: &str,
        within: Duration,
    ) -> Result<Vec<Instance>, DiscoverdError> {
        let present = self.instances(service).await?;
        if !present.is_empty() {
            return Ok(present);
        }
        let mut watch = self.watch(service);
        let first = tokio::time::timeout(within, async move {
            loop {
                if let Some(instance) = watch.next().await.instance {
                    return instance;
                }
            }
        });
        match first.await {
            Ok(instance) => Ok(vec![instance]),
            Err(_) => Err(DiscoverdError::NoInstances { service: service.to_owned(), within }),
        }
    }

    /// One PUT of an instance: a new registration or a heartbeat. [`register`](Self::register) repeats it.
    pub async fn put_instance(
        &self,
        service: &str,
        instance: &Instance,
    ) -> Result<(), DiscoverdError> {
        let path = path(service, &format!("/instances/{}", instance.id));
        self.change(Method::PUT, &path, instance).await
    }

    /// Removes an instance; one that is not there is fine.
    pub async fn remove_instance(
        &self,
        service: &str,
        id: &InstanceId,
    ) -> Result<(), DiscoverdError> {
        let path = path(service, &format!("/instances/{}", segment(id.as_str())));
        self.call(|| Ok(Request::new(Method::DELETE, &path))).await
    }

    /// Registers an instance, tried for a minute, and keeps it alive by a task of `tasks` until the
    /// handle is closed or the tasks are stopped.
    pub async fn register(
        &self,
        tasks: &Tasks,
        service: &str,
        instance: Instance,
    ) -> Result<Heartbeat, DiscoverdError> {
        patiently(|| self.put_instance(service, &instance)).await?;
        Ok(Heartbeat::start(self.clone(), tasks, service, instance, None))
    }

    /// Registers an instance in the background, creating the service where it is missing; never gives
    /// up. For components that must run while discoverd is away.
    pub fn announce(
        &self,
        tasks: &Tasks,
        service: &str,
        config: ServiceConfig,
        instance: Instance,
    ) -> Heartbeat {
        Heartbeat::start(self.clone(), tasks, service, instance, Some(config))
    }

    /// The instance that leads, if any.
    pub async fn leader(&self, service: &str) -> Result<Option<Instance>, DiscoverdError> {
        self.get(&path(service, "/leader")).await
    }

    /// Makes an instance the leader of a service of manual election.
    pub async fn set_leader(&self, service: &str, id: &InstanceId) -> Result<(), DiscoverdError> {
        self.change(Method::PUT, &path(service, "/leader"), &LeaderChange { id: id.clone() }).await
    }

    /// A service's metadata, if it has any.
    pub async fn meta(&self, service: &str) -> Result<Option<ServiceMeta>, DiscoverdError> {
        self.get(&path(service, "/meta")).await
    }

    /// Compare-and-swap of a service's metadata; gives it with its new index. Refused with
    /// [`ErrorCode::ObjectExists`] or [`ErrorCode::PreconditionFailed`] when somebody else was faster.
    /// Not repeated when the connection breaks, as it may have been done: read again and decide.
    pub async fn set_meta(
        &self,
        service: &str,
        meta: &ServiceMeta,
    ) -> Result<ServiceMeta, DiscoverdError> {
        let path = path(service, "/meta");
        let request = || Request::new(Method::PUT, &path).json(meta);
        repeatedly(RETRY_FOR, ClientError::is_retryable, || self.send(request())).await
    }

    /// Everything that happens to a service, from its present state on. Never ends: it reconnects, and
    /// makes up for what was missed meanwhile.
    pub fn watch(&self, service: &str) -> Watch {
        Watch::new(self.clone(), service)
    }

    /// The leader of a service and each change of it.
    pub fn leaders(&self, service: &str) -> Leaders {
        Leaders::new(self.watch(service))
    }

    /// Opens one stream of a service's events.
    pub(crate) async fn open(&self, service: &str) -> Result<kit_http::EventStream, ClientError> {
        self.http.events(&path(service, ""), None).await
    }

    /// Whether a server answers.
    pub async fn ping(&self) -> Result<(), DiscoverdError> {
        self.send::<kit_http::Ignored>(Ok(Request::get("/ping"))).await?;
        Ok(())
    }

    /// Which server leads the log.
    pub async fn raft_leader(&self) -> Result<RaftLeader, DiscoverdError> {
        self.call(|| Ok(Request::get("/raft/leader"))).await
    }

    /// The servers that vote, as `ip:port`.
    pub async fn raft_peers(&self) -> Result<Vec<String>, DiscoverdError> {
        self.call(|| Ok(Request::get("/raft/peers"))).await
    }

    /// All servers that have the log, those without a vote too.
    pub async fn raft_members(&self) -> Result<Vec<RaftMember>, DiscoverdError> {
        self.call(|| Ok(Request::get("/raft/members"))).await
    }

    /// Makes the server that is asked a voter; one that is fine. Not repeated: it may take a minute.
    pub async fn promote(&self) -> Result<(), DiscoverdError> {
        self.change_server("/raft/promote").await
    }

    /// Makes the server that is asked follow without a vote. Refused with [`ErrorCode::Conflict`] for the
    /// last voter and where too few others would answer. Not repeated: it may take a minute.
    pub async fn demote(&self) -> Result<(), DiscoverdError> {
        self.change_server("/raft/demote").await
    }

    /// Makes the server that is asked the one voter of a new cluster, with what it knows; it ends and has to
    /// be started again. Refused with [`ErrorCode::Conflict`] unless the quorum is lost, every silent voter
    /// is named, and no other survivor knows more. Not repeated.
    pub async fn rebuild(&self, lost: BTreeSet<String>) -> Result<(), DiscoverdError> {
        let request = Request::new(Method::POST, "/raft/rebuild").json(&Rebuild { lost })?;
        Ok(self.send(Ok(request)).await?)
    }

    async fn change_server(&self, path: &str) -> Result<(), DiscoverdError> {
        let request = Request::new(Method::POST, path).timeout(MEMBERSHIP_TIMEOUT);
        Ok(self.http.send(request).await?.json().await?)
    }

    /// Adds a voter; gives the log's last index, which it must have reached to be of use.
    pub async fn add_peer(&self, peer: &str) -> Result<LastIndex, DiscoverdError> {
        self.call(|| Ok(Request::new(Method::PUT, &format!("/raft/peers/{peer}")))).await
    }

    /// Removes a server, whether it votes or not; one that is none is fine.
    pub async fn remove_peer(&self, peer: &str) -> Result<(), DiscoverdError> {
        self.call(|| Ok(Request::new(Method::DELETE, &format!("/raft/peers/{peer}")))).await
    }

    /// Ends the server's service; gives the last index of its log. Not repeated.
    pub async fn shutdown(&self) -> Result<LastIndex, DiscoverdError> {
        Ok(self.send(Ok(Request::new(Method::POST, "/shutdown"))).await?)
    }

    /// GET of something that may not be there.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, DiscoverdError> {
        match self.call(|| Ok(Request::get(path))).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn change<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<(), DiscoverdError> {
        let request = || Request::new(method.clone(), path).json(body);
        self.call::<()>(request).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> Result<Request, ClientError>,
    ) -> Result<T, DiscoverdError> {
        repeatedly(RETRY_FOR, is_repeatable, || self.send(request())).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Result<Request, ClientError>,
    ) -> Result<T, ClientError> {
        let whole = async { self.http.send(request?).await?.json().await };
        match tokio::time::timeout(REQUEST_TIMEOUT, whole).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(ClientError::Timeout { what: "discoverd's answer", within: REQUEST_TIMEOUT })
            }
        }
    }
}

/// Whether a request that changes nothing when done twice is worth another try.
fn is_repeatable(error: &ClientError) -> bool {
    let broke = matches!(error, ClientError::Transport { .. } | ClientError::Timeout { .. });
    broke || error.is_retryable() || is_overloaded(error)
}

/// Something between us and discoverd says that nobody is there.
fn is_overloaded(error: &ClientError) -> bool {
    matches!(error, ClientError::Status { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE)
}

async fn repeatedly<T, F: Future<Output = Result<T, ClientError>>>(
    within: Duration,
    worth_it: impl Fn(&ClientError) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, DiscoverdError> {
    let give_up = Instant::now() + within;
    let mut pauses = Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX, rand::random());
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = pauses.next_delay();
        if !worth_it(&error) || Instant::now() + pause >= give_up {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
    }
}

/// Repeats whatever the error is, for a minute: the service a caller depends on may just be made.
async fn patiently<T, F: Future<Output = Result<T, DiscoverdError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, DiscoverdError> {
    let give_up = Instant::now() + SETUP_FOR;
    let mut pauses = Backoff::new(RETRY_PAUSE * 2, RETRY_PAUSE_MAX, rand::random());
    loop {
        let result = attempt().await;
        let pause = pauses.next_delay();
        if result.is_ok() || Instant::now() + pause >= give_up {
            return result;
        }
        tokio::time::sleep(pause).await;
    }
}

fn path(service: &str, rest: &str) -> String {
    format!("/services/{}{rest}", segment(service))
}

/// A path segment: what is no plain character of a name is percent-encoded.
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
