//! The two things the overlay wants of the host daemon: where discoverd is, and that it takes its
//! subnet.

use std::time::Duration;

use discoverd_api::Servers;
use host_api::{HostClient, NetworkConfig};
use kit_backoff::Backoff;
use kit_http::ClientError;
use netplan::Block;

use crate::memory::Remembered;

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

/// Tells the host its subnet, until it takes it or refuses it for good.
pub(crate) async fn configure(
    host: &HostClient,
    job_id: &str,
    lease: Remembered,
) -> Result<(), ClientError> {
    let config = NetworkConfig {
        job_id: job_id.to_owned(),
        subnet: bridge(lease.subnet),
        mtu: lease.mtu,
        ..NetworkConfig::default()
    };
    let mut pauses = pauses();
    loop {
        match host.configure_network(&config).await {
            Ok(()) => {
                tracing::info!(subnet = %config.subnet, mtu = config.mtu, "the host has its subnet");
                return Ok(());
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, subnet = %config.subnet, "the host did not take its subnet yet")
            }
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

/// The bridge has the first address after the subnet's own.
fn bridge(subnet: Block) -> String {
    let ip = std::net::Ipv4Addr::from(u32::from(subnet.first()) + 1);
    format!("{ip}/{}", subnet.prefix_len())
}

/// Whether the host understood and said no: asking again would change nothing.
fn is_refusal(error: &ClientError) -> bool {
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
