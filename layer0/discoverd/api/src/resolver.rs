//! Names below `.discoverd` for the HTTP client, asked over discoverd's HTTP API. Not DNS: programs in
//! jobs use the resolver of their system, which asks discoverd's DNS.

use std::io;
use std::net::{IpAddr, SocketAddr};

use kit_http::{Resolve, Resolved};

use crate::{Client, DiscoverdError, Instance};

/// Resolves `<service>.discoverd`, `leader.<service>.discoverd` and `<id>.<service>._i.discoverd`.
#[derive(Clone, Debug)]
pub struct DiscoverdResolver {
    client: Client,
}

/// A name below `.discoverd`.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    All(&'a str),
    Leader(&'a str),
    One { service: &'a str, id: &'a str },
}

impl DiscoverdResolver {
    /// A resolver that asks this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn find(&self, wanted: Wanted<'_>) -> Result<Vec<Instance>, DiscoverdError> {
        match wanted {
            Wanted::All(service) => self.client.instances(service).await,
            Wanted::Leader(service) => Ok(self.client.leader(service).await?.into_iter().collect()),
            Wanted::One { service, id } => {
                let mut found = self.client.instances(service).await?;
                found.retain(|instance| instance.id.as_str() == id);
                Ok(found)
            }
        }
    }
}

impl Resolve for DiscoverdResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a> {
        Box::pin(async move {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let Some(wanted) = parse(&host) else { return Ok(None) };
            let found = self.find(wanted).await.map_err(io::Error::other)?;
            let mut ips: Vec<IpAddr> =
                found.iter().filter_map(|instance| instance.host()?.parse().ok()).collect();
            ips.sort_unstable();
            ips.dedup();
            if ips.is_empty() {
                let text = format!("discoverd knows no address for {host}");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            // Spreads the load as DNS answers do.
            let start = rand::random_range(0..ips.len());
            ips.rotate_left(start);
            Ok(Some(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()))
        })
    }
}

fn parse(host: &str) -> Option<Wanted<'_>> {
    let labels: Vec<_> = host.strip_suffix(".discoverd")?.split('.').collect();
    match *labels.as_slice() {
        [service] => Some(Wanted::All(service)),
        ["leader", service] => Some(Wanted::Leader(service)),
        [id, service, "_i"] => Some(Wanted::One { service, id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_discoverd_are_understood_and_others_left_alone() {
        for (host, wanted) in [
            ("blobstore.discoverd", Some(Wanted::All("blobstore"))),
            ("leader.postgres.discoverd", Some(Wanted::Leader("postgres"))),
            ("ab.web._i.discoverd", Some(Wanted::One { service: "web", id: "ab" })),
            ("example.com", None),
            ("discoverd", None),
            ("a.b.discoverd", None),
        ] {
            assert_eq!(parse(host), wanted, "{host}");
        }
    }
}
