//! The other hosts of the cluster: those the configuration names, those an operator admitted, those that
//! were ever seen in discoverd. They may reach the guarded ports and are asked for layers.
//!
//! A host that is silent stays a member: when all come back from a power cut, nobody could form a quorum
//! again if each of them first had to be seen in the discoverd that needs the quorum. Only an operator
//! makes the cluster forget one, even one that the configuration still names.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use host_api::{HostClient, MemberChange};
use kit_backoff::Backoff;

use crate::host::Host;
use crate::store::StoreError;

/// Between two rounds of asking peers where discoverd is.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long one peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of all members but this host's.
pub(crate) fn addresses(host: &Host) -> BTreeSet<Ipv4Addr> {
    let told = host.settings.now();
    let all = told.members.into_iter().chain(host.config.peer_ips.iter().copied());
    all.filter(|ip| *ip != host.config.external_ip && !told.forgotten.contains(ip)).collect()
}

/// Opens the guarded ports to the members, and has them asked for layers.
pub(crate) async fn apply(host: &Host) {
    let members = addresses(host);
    let urls = members.iter().map(|ip| url(host, *ip)).collect();
    host.peers.send_replace(urls);
    if let Err(error) = host.nets.set_known_hosts(members.into_iter().collect()).await {
        tracing::error!(%error, "firewall does not know all hosts");
    }
}

/// Remembers and forgets members.
pub(crate) async fn change(host: &Host, change: MemberChange) -> Result<(), StoreError> {
    let before = host.settings.now();
    let is_news = change.add.iter().any(|ip| !before.members.contains(ip))
        || change.add.iter().any(|ip| before.forgotten.contains(ip))
        || change.remove.iter().any(|ip| !before.forgotten.contains(ip));
    if is_news {
        host.settings
            .change(|told| {
                told.forgotten.retain(|ip| !change.add.contains(ip));
                told.members.extend(change.add);
                told.members.retain(|ip| !change.remove.contains(ip));
                told.forgotten.extend(change.remove);
            })
            .await?;
    }
    apply(host).await;
    Ok(())
}

/// Where discoverd is, asked of the configured peers until one knows: so a new host finds the cluster it
/// shall join. Never returns where no peers are configured.
pub(crate) async fn discoverd_of_peers(host: &Arc<Host>) -> String {
    if host.config.peer_ips.is_empty() {
        return std::future::pending().await;
    }
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
    loop {
        for ip in &host.config.peer_ips {
            if *ip != host.config.external_ip
                && let Some(found) = discoverd_of(&url(host, *ip)).await
            {
                return found;
            }
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

async fn discoverd_of(url: &str) -> Option<String> {
    let client = HostClient::new(url).ok()?;
    let status = tokio::time::timeout(PATIENCE, client.status()).await.ok()?.ok()?;
    status.discoverd.map(|discoverd| discoverd.url).filter(|url| !url.is_empty())
}

/// The API of a member; all hosts of a cluster have it on the same port.
fn url(host: &Host, ip: Ipv4Addr) -> String {
    let port = host.config.listen.first().map_or(host_api::PORT, std::net::SocketAddr::port);
    format!("http://{ip}:{port}")
}
