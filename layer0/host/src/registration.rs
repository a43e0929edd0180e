//! The registration proxy: jobs of people cannot reach discoverd; those that say they register
//! themselves reach this, on the bridge's address, and through it write instances of their own address
//! in services of their own app. Nothing else of discoverd is to be had here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::routing::{get, put};
use discoverd_api::{Client, DiscoverdError, Instance, Servers, ServiceConfig};
use host_api::Job;
use host_network::Subnet;
use kit_http::{ApiError, Json};
use tokio::net::TcpListener;

use crate::host::Host;
use crate::settings::Told;

/// Discoverd's own port.
pub(crate) const PORT: u16 = 1111;

/// The pause before the bridge's address is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a job that registers itself is told that discoverd is.
pub(crate) fn url(bridge: Ipv4Addr) -> String {
    format!("http://{bridge}:{PORT}")
}

/// The bridge's address, once the host was told its subnet.
pub(crate) fn bridge(told: &Told) -> Option<Ipv4Addr> {
    let subnet: Subnet = told.network.as_ref()?.subnet.parse().ok()?;
    Some(subnet.bridge_ip())
}

/// Serves on the bridge's address, whatever it is, until it is dropped.
pub(crate) async fn serve(host: Arc<Host>) {
    let mut told = host.settings.watch();
    loop {
        let Some(ip) = bridge(&told.borrow_and_update()) else {
            if told.changed().await.is_err() {
                return;
            }
            continue;
        };
        let listener = match TcpListener::bind((ip, PORT)).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%ip, %error, "jobs cannot register themselves");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let tasks = host.tasks.child("registration");
        if let Err(error) = kit_http::serve(&tasks, listener, router(host.clone())) {
            tracing::warn!(%ip, %error, "jobs cannot register themselves");
        }
        // Tags and discoverd's place change too; only another bridge matters.
        while bridge(&told.borrow_and_update()) == Some(ip) {
            if told.changed().await.is_err() {
                return;
            }
        }
        tasks.stop();
    }
}

fn router(host: Arc<Host>) -> Router {
    let routes = Router::new()
        .route("/ping", get(async || ()))
        .route("/services/{service}", put(add_service))
        .route("/services/{service}/instances", get(instances))
        .route("/services/{service}/instances/{id}", put(put_instance).delete(remove_instance));
    kit_http::finish(routes.with_state(host))
}

/// Who asks, and what is asked.
struct Caller {
    ip: IpAddr,
    client: Client,
}

impl Caller {
    /// The job at this address, if it may write the service.
    async fn of(host: &Host, peer: SocketAddr, service: &str) -> Result<Self, ApiError> {
        let ip = peer.ip();
        let jobs = host.registry.list().await;
        let job = jobs.iter().map(|record| &record.active).find(|active| {
            active.internal_ip == Some(ip)
                && !active.status.has_ended()
                && active.job.config.register
        });
        let own = job.map(|active| services_of(&active.job)).unwrap_or_default();
        if !own.contains(service) {
            let text = format!("this job may not write service {service:?}");
            return Err(ApiError::unauthorized(text));
        }
        let away = || ApiError::service_unavailable("this host knows no discoverd yet");
        let discoverd = host.settings.now().discoverd.ok_or_else(away)?;
        let client = Client::new(&Servers::parse(&discoverd.url)).map_err(|_| away())?;
        Ok(Self { ip, client })
    }

    fn is_own(&self, instance: &Instance) -> bool {
        instance.host().and_then(|host| host.parse().ok()) == Some(self.ip)
    }
}

/// Services a job may be in: its app's, its process type's, and those of its own ports.
fn services_of(job: &Job) -> BTreeSet<String> {
    let ports = job.config.ports.iter().filter_map(|port| port.service.as_ref());
    let mut services: BTreeSet<String> = ports.map(|service| service.name.clone()).collect();
    if let Some(app) = job.meta("flynn-controller.app_name") {
        services.insert(app.to_owned());
        if let Some(kind) = job.meta("flynn-controller.type") {
            services.insert(format!("{app}-{kind}"));
        }
    }
    services
}

async fn add_service(
    State(host): State<Arc<Host>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(service): Path<String>,
    Json(config): Json<ServiceConfig>,
) -> Result<(), ApiError> {
    let caller = Caller::of(&host, peer, &service).await?;
    caller.client.add_service(&service, config).await.map_err(|error| refusal(&error))
}

async fn instances(
    State(host): State<Arc<Host>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(service): Path<String>,
) -> Result<Json<Vec<Instance>>, ApiError> {
    let caller = Caller::of(&host, peer, &service).await?;
    caller.client.instances(&service).await.map(Json).map_err(|error| refusal(&error))
}

async fn put_instance(
    State(host): State<Arc<Host>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((service, id)): Path<(String, String)>,
    Json(instance): Json<Instance>,
) -> Result<(), ApiError> {
    let caller = Caller::of(&host, peer, &service).await?;
    if !caller.is_own(&instance) || instance.id.as_str() != id {
        return Err(ApiError::validation("addr", format!("must be at {}", caller.ip)));
    }
    caller.client.put_instance(&service, &instance).await.map_err(|error| refusal(&error))
}

async fn remove_instance(
    State(host): State<Arc<Host>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((service, id)): Path<(String, String)>,
) -> Result<(), ApiError> {
    let caller = Caller::of(&host, peer, &service).await?;
    let known = caller.client.instances(&service).await.map_err(|error| refusal(&error))?;
    let instance = known.iter().find(|instance| instance.id.as_str() == id);
    match instance.filter(|instance| caller.is_own(instance)) {
        Some(instance) => caller
            .client
            .remove_instance(&service, &instance.id)
            .await
            .map_err(|error| refusal(&error)),
        None => Err(ApiError::object_not_found("instance not found")),
    }
}

/// What discoverd says is the job's to know.
fn refusal(error: &DiscoverdError) -> ApiError {
    if let DiscoverdError::Http(http) = error
        && let Some(api) = http.api()
    {
        return api.clone();
    }
    tracing::warn!(%error, "registration not passed on");
    ApiError::service_unavailable("discoverd cannot be reached")
}

#[cfg(test)]
mod tests {
    use host_api::{Port, Service};

    use super::*;

    #[test]
    fn a_job_may_be_in_services_of_its_own_app_and_type_only() {
        let mut job = Job::new("host1-a".parse().unwrap());
        assert!(services_of(&job).is_empty());
        job.metadata.insert("flynn-controller.app_name".into(), "shop".into());
        job.metadata.insert("flynn-controller.type".into(), "web".into());
        let service = Service { name: "till".into(), create: true, check: None };
        job.config.ports = vec![Port { port: 1, proto: "tcp".into(), service: Some(service) }];
        let services: Vec<_> = services_of(&job).into_iter().collect();
        assert_eq!(services, ["shop", "shop-web", "till"]);
    }
}
