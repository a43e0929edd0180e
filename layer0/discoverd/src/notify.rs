//! What a server tells others about itself: the host it runs on, and discoverd's own registry. Also the
//! wait for the host's network, on whose bridge DNS is answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use discoverd_api::{Client, DiscoverdConfig, DiscoverdError, Instance, Servers, ServiceConfig};
use http::Method;
use kit_clock::Clock;
use kit_http::{ClientError, Request};
use kit_tasks::Tasks;
use serde::Deserialize;

use crate::config::{Config, DnsConfig, join};
use crate::dns;
use crate::http::Context;
use crate::server::StartError;

/// The name under which discoverd's servers find each other.
const SERVICE: &str = "discoverd";
/// How often the host is asked for its network.
const POLL: Duration = Duration::from_millis(500);
/// How long the host may take to answer.
const HOST_PATIENCE: Duration = Duration::from_secs(5);
/// How often this server says in its registry that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long to wait after a failure to listen on the bridge.
const RETRY: Duration = Duration::from_secs(5);

/// Starts the announcements. `http` and `dns` are the addresses listened on.
pub(crate) fn start(
    tasks: &Tasks,
    config: &Config,
    context: &Arc<Context>,
    http: SocketAddr,
    dns: Option<SocketAddr>,
    clock: Arc<dyn Clock>,
) -> Result<(), StartError> {
    let client = Client::new(&Servers::parse(&reachable(http).to_string()));
    let client = client.map_err(StartError::Client)?;
    let own = join(&config.host, http.port());
    let context = Arc::clone(context);
    let herald = Herald { config: config.clone(), context, clock, tasks: tasks.clone() };
    tasks.spawn_until_stop("announce", async move {
        herald.context.node.of_use().await;
        herald.register(client, Instance::new("tcp", &own));
        herald.notify(dns).await;
        if dns.is_none()
            && let Some(url) = herald.config.wait_net_dns.clone()
        {
            let dns = herald.serve_bridge(&url).await;
            herald.notify(Some(dns)).await;
        }
    });
    Ok(())
}

/// An address this machine can connect to.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, addr.port())
}

struct Herald {
    config: Config,
    context: Arc<Context>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

/// The part of the host's status page that is of use here.
#[derive(Debug, Deserialize)]
struct HostStatus {
    network: Option<Network>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default)]
    subnet: String,
    #[serde(default)]
    resolvers: Option<Vec<String>>,
}

/// The server's own entry in its registry.
#[derive(Debug)]
pub(crate) struct Registration {
    client: Client,
    instance: Instance,
    tasks: Tasks,
}

impl Registration {
    /// Ends it and tells the registry. A server that just stops says nothing: it comes back as the same
    /// instance, or expires.
    pub(crate) async fn end(&self) {
        self.tasks.shutdown(HEARTBEAT).await;
        let removal = self.client.remove_instance(SERVICE, &self.instance.id);
        match tokio::time::timeout(HEARTBEAT, removal).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "own instance stays until it expires"),
            Err(_) => tracing::warn!("own instance stays until it expires"),
        }
    }

    async fn beat(client: Client, instance: Instance) {
        loop {
            if let Err(error) = put(&client, &instance).await {
                tracing::warn!(%error, "this server could not register itself, trying again");
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}

async fn put(client: &Client, instance: &Instance) -> Result<(), DiscoverdError> {
    match client.put_instance(SERVICE, instance).await {
        Err(error) if error.is_not_found() => {
            client.ensure_service(SERVICE, ServiceConfig::default()).await?;
            client.put_instance(SERVICE, instance).await
        }
        result => result,
    }
}

impl Herald {
    fn register(&self, client: Client, instance: Instance) {
        let tasks = self.tasks.child("registration");
        tasks.spawn_until_stop("beat", Registration::beat(client.clone(), instance.clone()));
        // The herald runs once, so that there is no earlier one.
        drop(self.context.registration.set(Registration { client, instance, tasks }));
    }

    /// Tells the host where this server is. Its answer changes nothing here.
    async fn notify(&self, dns: Option<SocketAddr>) {
        let Some(url) = &self.config.notify else { return };
        let body = DiscoverdConfig {
            job_id: self.config.job_id.clone(),
            url: self.context.node.servers().join(","),
            dns: dns.map(|addr| addr.to_string()).unwrap_or_default(),
        };
        if let Err(error) = post(url, &body).await {
            tracing::warn!(%url, %error, "the host could not be told of this server");
        }
    }

    /// Waits for the host's network, then answers DNS on its bridge.
    async fn serve_bridge(&self, status: &str) -> SocketAddr {
        loop {
            let config = self.bridge(status).await;
            let (state, clock) = (Arc::clone(&self.context.state), Arc::clone(&self.clock));
            let zone = dns::Zone::new(state, clock, self.config.domain.clone());
            match dns::start(&self.tasks, &config, zone).await {
                Ok(addr) => return addr,
                Err(error) => {
                    tracing::warn!(%error, addr = %config.listen, "DNS cannot be answered, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn bridge(&self, url: &str) -> DnsConfig {
        loop {
            match get::<HostStatus>(url).await {
                Ok(status) => {
                    if let Some(config) = status.network.as_ref().and_then(bridge_dns) {
                        return config;
                    }
                }
                Err(error) => tracing::debug!(%url, %error, "the host's status is not there yet"),
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// DNS on the address of a subnet such as `100.100.5.1/24`; None until there is one.
fn bridge_dns(network: &Network) -> Option<DnsConfig> {
    let ip: IpAddr = network.subnet.split('/').next()?.parse().ok()?;
    let resolvers = network.resolvers.iter().flatten();
    let recursors = resolvers.filter_map(|text| recursor(text)).collect();
    Some(DnsConfig { listen: SocketAddr::new(ip, 53), recursors })
}

/// `8.8.8.8`, `8.8.8.8:53`, `::1` or `[::1]:53`.
fn recursor(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>();
    with_port.or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))).ok()
}

async fn post(url: &str, body: &DiscoverdConfig) -> Result<(), ClientError> {
    let (base, path) = split(url);
    let client = kit_http::Client::builder(base).request_timeout(HOST_PATIENCE).build()?;
    let request = Request::new(Method::POST, path).json(body)?;
    client.send(request).await.map(drop)
}

async fn get<T: serde::de::DeserializeOwned>(url: &str) -> Result<T, ClientError> {
    let (base, path) = split(url);
    let client = kit_http::Client::builder(base).request_timeout(HOST_PATIENCE).build()?;
    let whole = async { client.send(Request::get(path)).await?.json().await };
    tokio::time::timeout(HOST_PATIENCE, whole).await.unwrap_or_else(|_| {
        Err(ClientError::Timeout { what: "the host's status", within: HOST_PATIENCE })
    })
}

/// `http://host:port` and the path after it.
fn split(url: &str) -> (&str, &str) {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    match url[after_scheme..].find('/') {
        Some(slash) => url.split_at(after_scheme + slash),
        None => (url, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursors_get_their_port_and_brackets() {
        for (text, want) in [
            ("8.8.8.8", Some("8.8.8.8:53")),
            ("8.8.8.8:5353", Some("8.8.8.8:5353")),
            ("2001:db8::1", Some("[2001:db8::1]:53")),
            ("[2001:db8::1]:54", Some("[2001:db8::1]:54")),
            ("nonsense", None),
        ] {
            assert_eq!(recursor(text).map(|addr| addr.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn urls_split_before_their_path() {
        for (url, want) in [
            ("http://h:1/a/b", ("http://h:1", "/a/b")),
            ("http://h:1", ("http://h:1", "/")),
            ("h:1/a", ("h:1", "/a")),
        ] {
            assert_eq!(split(url), want);
        }
    }
}
