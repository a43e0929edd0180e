//! The two things the overlay wants of the host daemon: where discoverd is, and that it takes its
//! subnet and knows the way to the others.

use std::time::Duration;

use discoverd_api::Servers;
use host_api::{HostClient, NetworkConfig, OverlayConfig};
use kit_backoff::Backoff;
use kit_http::ClientError;
use netplan::Block;

/// Pauses between tries: short, because jobs wait for the network.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses of somebody who waits for the host or discoverd.
pub(crate) fn pauses() -> Backoff {
    Backoff::new(PAUSE, PAUSE_MAX, rand::random())
}

/// Waits until the host knows a discoverd.
pub(crate) async fn discoverd(host: &HostClient) -> Servers {
    let mut pauses = pauses();
    loop {
        match host.status().await {
            Ok(status) => match status.discoverd {
                Some(discoverd) if !discoverd.url.is_empty() => {
                    return Servers::parse(&discoverd.url);
                }
                Some(_) | None => tracing::debug!("the host knows no discoverd yet"),
            },
            Err(error) => tracing::debug!(%error, "the host does not answer yet"),
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

/// What the host is told.
pub(crate) fn network_config(
    job_id: &str,
    subnet: Block,
    mtu: u32,
    overlay: Option<OverlayConfig>,
) -> NetworkConfig {
    NetworkConfig {
        job_id: job_id.to_owned(),
        subnet: bridge(subnet),
        mtu,
        overlay,
        ..NetworkConfig::default()
    }
}

/// Tells the host its network, until it takes it or refuses it for good.
pub(crate) async fn configure_patiently(
    host: &HostClient,
    config: &NetworkConfig,
) -> Result<(), ClientError> {
    let mut pauses = pauses();
    loop {
        match configure(host, config).await {
            Err(error) if !is_refusal(&error) => {
                tracing::warn!(%error, subnet = %config.subnet, "the host did not take its subnet yet");
            }
            done => return done,
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

/// Tells the host its network once.
pub(crate) async fn configure(
    host: &HostClient,
    config: &NetworkConfig,
) -> Result<(), ClientError> {
    host.configure_network(config).await?;
    let hosts = config.overlay.as_ref().map_or(0, |overlay| overlay.hosts.len());
    tracing::info!(subnet = %config.subnet, mtu = config.mtu, hosts, "the host has its network");
    Ok(())
}

/// The bridge has the first address after the subnet's own.
fn bridge(subnet: Block) -> String {
    let ip = std::net::Ipv4Addr::from(u32::from(subnet.first()) + 1);
    format!("{ip}/{}", subnet.prefix_len())
}

/// Whether the host understood and said no: asking again would change nothing.
pub(crate) fn is_refusal(error: &ClientError) -> bool {
    matches!(error, ClientError::Api { status, error } if status.is_client_error() && !error.retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_is_the_first_address() {
        assert_eq!(bridge("100.100.12.0/24".parse().unwrap()), "100.100.12.1/24");
    }
}
