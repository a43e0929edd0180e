//! Joining the other aggregators: first the leader's memory, then the registration that makes hosts send.
//! In the background: an aggregator works without any of it.

use std::net::SocketAddr;
use std::time::Duration;

use discoverd_api::{DiscoverdError, Instance, ServiceConfig};
use kit_tasks::Tasks;

use crate::Registration;
use crate::snapshot;
use crate::store::Store;

/// Instance metadata: where an aggregator's HTTP is, when not on port 80.
const HTTP_PORT: &str = "http_port";

/// How long a leader is looked for. Without discoverd there is no leader to ask, and hosts have files.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a whole snapshot may take. Hosts send to nobody meanwhile.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Loads the leader's snapshot, then registers `syslog` until the tasks are stopped.
pub(crate) fn join(
    tasks: &Tasks,
    registration: Registration,
    http: SocketAddr,
    syslog: SocketAddr,
    store: Store,
) {
    let node = tasks.clone();
    tasks.spawn_until_stop("join", async move {
        let addr = SocketAddr::new(registration.address, syslog.port()).to_string();
        let instance = Instance::new("tcp", &addr).with_meta(HTTP_PORT, &http.port().to_string());
        load_from_leader(&registration, &instance, &store).await;
        let Registration { discoverd, service, .. } = registration;
        // The handle's task goes on without the handle.
        drop(discoverd.announce(&node, &service, ServiceConfig::default(), instance));
    });
}

async fn load_from_leader(registration: &Registration, own: &Instance, store: &Store) {
    let leader = registration.discoverd.leader(&registration.service);
    let leader = match tokio::time::timeout(LEADER_PATIENCE, leader).await {
        Ok(Ok(Some(leader))) if leader.id != own.id => leader,
        Ok(Ok(_)) => return,
        Ok(Err(error)) => return no_leader(&error),
        Err(_) => return tracing::warn!("discoverd is away, starting with an empty memory"),
    };
    let url = snapshot_base(&leader);
    match tokio::time::timeout(LOAD_PATIENCE, snapshot::load(&url, store)).await {
        Ok(Ok(lines)) => tracing::info!(%url, lines, "leader's lines loaded"),
        Ok(Err(error)) => tracing::warn!(%url, error = %chain(&error), "leader's lines not loaded"),
        Err(_) => tracing::warn!(%url, "leader's lines not loaded to their end in time"),
    }
}

fn no_leader(error: &DiscoverdError) {
    tracing::warn!(%error, "no leader to load lines from, starting with an empty memory");
}

/// `http://HOST[:PORT]` of an aggregator.
fn snapshot_base(leader: &Instance) -> String {
    let host = leader.host().unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match leader.meta.get(HTTP_PORT) {
        Some(port) => format!("http://{host}:{port}"),
        None => format!("http://{host}"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_asked_where_its_http_is() {
        let leader = Instance::new("tcp", "192.0.2.1:514");
        assert_eq!(snapshot_base(&leader), "http://192.0.2.1");
        assert_eq!(snapshot_base(&leader.with_meta("http_port", "5000")), "http://192.0.2.1:5000");
        assert_eq!(
            snapshot_base(&Instance::new("tcp", "[2001:db8::1]:514")),
            "http://[2001:db8::1]"
        );
    }
}
