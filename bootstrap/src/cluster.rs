//! The hosts a bootstrap works with.

use std::time::Duration;

use futures_util::future::join_all;
use host_api::{HostClient, HostStatus};
use kit_backoff::Backoff;
use kit_http::ClientError;
use kit_ids::HostId;
use tokio::time::Instant;

/// Between two looks at hosts that are not there yet.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A host whose daemon answers.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its external address.
    pub ip: String,
    /// Its daemon.
    pub client: HostClient,
}

/// Not enough hosts in time.
#[derive(Debug, thiserror::Error)]
#[error("timed out waiting for {wanted} hosts to come online (currently {online} online){}", list(.missing))]
pub struct HostsMissing {
    wanted: usize,
    online: usize,
    missing: Vec<String>,
}

/// Waits until `wanted` of the hosts at `urls` answer; sorted by address.
pub(crate) async fn online(
    urls: &[String],
    wanted: usize,
    timeout: Duration,
) -> Result<Vec<Host>, HostsMissing> {
    let give_up = Instant::now() + timeout;
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
    loop {
        let answers = join_all(urls.iter().map(|url| ask(url))).await;
        let mut hosts = Vec::new();
        let mut missing = Vec::new();
        for (url, answer) in urls.iter().zip(answers) {
            match answer {
                Ok(host) => hosts.push(host),
                Err(error) => missing.push(format!("{url}: {error}")),
            }
        }
        hosts.sort_by(|one, other| ip_order(&one.ip).cmp(&ip_order(&other.ip)));
        hosts.dedup_by(|one, other| one.id == other.id);
        if hosts.len() >= wanted {
            return Ok(hosts);
        }
        let pause = pauses.next_delay();
        if Instant::now() + pause >= give_up {
            return Err(HostsMissing { wanted, online: hosts.len(), missing });
        }
        tokio::time::sleep(pause).await;
    }
}

async fn ask(url: &str) -> Result<Host, ClientError> {
    let client = HostClient::new(url)?;
    let status = client.status().await?;
    let ip = external_ip(&status).unwrap_or_else(|| host_of(url).to_owned());
    Ok(Host { id: status.id, ip, client })
}

/// The address a host says it has, unless it only knows that it listens.
fn external_ip(status: &HostStatus) -> Option<String> {
    let host = host_of(&status.url);
    (!host.is_empty()).then(|| host.to_owned())
}

/// The host part of a URL.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Addresses in their own order, names behind them.
fn ip_order(text: &str) -> (Option<std::net::IpAddr>, &str) {
    (text.parse().ok(), text)
}

fn list(missing: &[String]) -> String {
    missing.iter().map(|host| format!("\n  {host}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_part_of_a_url_is_found() {
        for (url, host) in [
            ("http://192.0.2.1:1113", "192.0.2.1"),
            ("http://host1/x", "host1"),
            ("192.0.2.1:1113", "192.0.2.1"),
            ("", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
