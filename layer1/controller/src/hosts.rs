//! The hosts of the cluster, as far as the controller needs them: to run one-off jobs and to stop jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use discoverd_api::{Client as Discoverd, DiscoverdResolver};
use futures_util::StreamExt as _;
use host_api::HostClient;
use kit_ids::HostId;
use kit_units::{Bytes, Millicpu};
use placement::{HostState, Offer, Reservation};

use crate::failure::{Answer, Failure};

/// The service every flynn-host registers itself in.
const SERVICE: &str = "flynn-host";

/// How many hosts are asked at a time for what they have, and how long one may take.
const ASKED_AT_ONCE: usize = 64;
const ASKED_FOR: Duration = Duration::from_secs(5);

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

    /// All hosts that answer, and what each has for a job. One that tells nothing of its size is taken for
    /// large: it refuses what it cannot hold.
    pub(crate) async fn offers(&self) -> Answer<BTreeMap<HostId, (Host, Offer)>> {
        let offers = futures_util::stream::iter(self.all().await?)
            .map(|(host, is_leaving)| async move {
                let offer = offer(&host, is_leaving).await?;
                Some((host.id.clone(), (host, offer)))
            })
            .buffer_unordered(ASKED_AT_ONCE);
        let offers: BTreeMap<_, _> = offers.filter_map(std::future::ready).collect().await;
        if offers.is_empty() {
            let text = "no host that is registered in discoverd answers";
            return Err(kit_http::ApiError::service_unavailable(text).into());
        }
        Ok(offers)
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

async fn offer(host: &Host, is_leaving: bool) -> Option<Offer> {
    let answer = tokio::time::timeout(ASKED_FOR, host.client.status()).await.ok()?;
    let resources = match answer {
        Ok(status) => status.resources,
        Err(error) if error.api().is_some() || error.is_not_found() => None,
        Err(error) => {
            tracing::info!(host = %host.id, %error, "host does not answer: no job goes there");
            return None;
        }
    };
    let state = if is_leaving { HostState::Draining } else { HostState::Serving };
    let large = Reservation { memory: Bytes::gib(1024), cpu: Millicpu(1_000_000) };
    let (capacity, used) = resources.map_or((large, Reservation::default()), |resources| {
        let of = |memory, cpu| Reservation { memory: Bytes(memory), cpu: Millicpu(cpu) };
        (
            of(resources.memory.total, resources.cpu.total),
            of(resources.memory.reserved, resources.cpu.reserved),
        )
    });
    Some(Offer { host: placement::Host { tags: BTreeMap::new(), capacity, state }, used })
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
