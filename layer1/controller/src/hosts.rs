//! The hosts of the cluster, as far as the controller needs them: to run one-off jobs and to stop jobs.

use discoverd_api::{Client as Discoverd, DiscoverdResolver};
use host_api::HostClient;
use kit_ids::HostId;
use rand::seq::IndexedRandom as _;

use crate::failure::{Answer, Failure};

/// The service every flynn-host registers itself in.
const SERVICE: &str = "flynn-host";

/// Finds hosts through discoverd.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    discoverd: Option<Discoverd>,
}

/// A host that can be asked for something.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) client: HostClient,
}

impl Hosts {
    pub(crate) fn new(discoverd: Option<Discoverd>) -> Self {
        Self { discoverd }
    }

    /// Any host that is not going away.
    pub(crate) async fn any(&self) -> Answer<Host> {
        let mut hosts = self.all().await?;
        hosts.retain(|(_, is_leaving)| !is_leaving);
        let host = hosts.choose(&mut rand::rng()).map(|(host, _)| host.clone());
        host.ok_or_else(|| {
            kit_http::ApiError::service_unavailable("no host is registered in discoverd").into()
        })
    }

    /// One host; none when discoverd does not know it.
    pub(crate) async fn find(&self, id: &HostId) -> Answer<Option<Host>> {
        let hosts = self.all().await?;
        Ok(hosts.into_iter().map(|(host, _)| host).find(|host| host.id == *id))
    }

    /// How many hosts there are that are not going away.
    pub(crate) async fn count(&self) -> Answer<usize> {
        Ok(self.all().await?.iter().filter(|(_, is_leaving)| !is_leaving).count())
    }

    async fn all(&self) -> Answer<Vec<(Host, bool)>> {
        let away = || {
            let text = "the hosts are not known: discoverd cannot be asked";
            Failure::Api(kit_http::ApiError::service_unavailable(text))
        };
        let discoverd = self.discoverd.as_ref().ok_or_else(away)?;
        let instances = discoverd.instances(SERVICE).await.map_err(|error| {
            tracing::warn!(%error, "hosts could not be listed");
            away()
        })?;
        let host = |instance: &discoverd_api::Instance| {
            let id = instance.meta.get("id")?.parse().ok()?;
            let client = HostClient::new(&format!("http://{}", instance.addr)).ok()?;
            Some((Host { id, client }, instance.meta.contains_key("shutdown")))
        };
        Ok(instances.iter().filter_map(host).collect())
    }
}

/// An HTTP client for what other components offer, by names below `.discoverd` too.
pub(crate) fn http_client(
    discoverd: Option<&Discoverd>,
) -> Result<kit_http::Client, kit_http::ClientError> {
    // The base is never used: all requests carry whole URLs.
    let builder = kit_http::Client::builder("http://controller.discoverd");
    let builder = builder.connect_timeout(std::time::Duration::from_secs(5));
    match discoverd {
        Some(client) => {
            builder.resolver(std::sync::Arc::new(DiscoverdResolver::new(client.clone()))).build()
        }
        None => builder.build(),
    }
}
