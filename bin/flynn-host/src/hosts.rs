//! The hosts of the cluster: one that was named, or all that discoverd knows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use host_api::HostClient;
use kit_ids::JobId;

use crate::Common;

const SERVICE: &str = "flynn-host";
/// How long discoverd may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) addr: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) client: HostClient,
}

/// Finds hosts.
#[derive(Debug)]
pub(crate) struct Hosts {
    url: Option<String>,
}

impl Hosts {
    pub(crate) fn new(common: &Common) -> Self {
        Self { url: common.host_url.clone() }
    }

    /// All hosts, by id.
    pub(crate) async fn all(&self) -> anyhow::Result<Vec<Host>> {
        match &self.url {
            Some(url) => Ok(vec![named(url).await?]),
            None => discovered().await,
        }
    }

    /// The host of an id.
    pub(crate) async fn host(&self, id: &str) -> anyhow::Result<Host> {
        let found = self.all().await?.into_iter().find(|host| host.id == id);
        found.ok_or_else(|| anyhow!("cluster: unknown host {id:?}"))
    }

    /// Any host.
    pub(crate) async fn any(&self) -> anyhow::Result<Host> {
        let mut hosts = self.all().await?;
        if hosts.is_empty() {
            bail!("no hosts found");
        }
        // Any is as good as another; the time spreads the choice.
        let nanos = chrono::Utc::now().timestamp_subsec_nanos() as usize;
        Ok(hosts.swap_remove(nanos % hosts.len()))
    }

    /// The host of a job, and the job's id parsed.
    pub(crate) async fn of_job(&self, text: &str) -> anyhow::Result<(Host, JobId)> {
        let id: JobId = text.parse().map_err(|_| anyhow!("invalid ID"))?;
        let host = self.host(id.host_part()).await;
        let host = host.with_context(|| format!("could not connect to host {}", id.host_part()))?;
        Ok((host, id))
    }
}

async fn named(url: &str) -> anyhow::Result<Host> {
    let client = HostClient::new(url)?;
    let status = client.status().await?;
    let addr = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    Ok(Host { id: status.id.to_string(), addr, tags: status.tags, client })
}

async fn discovered() -> anyhow::Result<Vec<Host>> {
    let discoverd = discoverd_api::Client::from_env()?;
    let instances = tokio::time::timeout(PATIENCE, discoverd.instances(SERVICE)).await;
    let instances = instances
        .context("discoverd does not answer")?
        .context("cannot ask discoverd for hosts")?;
    let mut hosts = Vec::new();
    for instance in instances {
        let tags = instance
            .meta
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("tag:")?.to_owned(), value.clone())));
        hosts.push(Host {
            id: instance.meta.get("id").cloned().unwrap_or_default(),
            tags: tags.collect(),
            client: HostClient::new(&format!("http://{}", instance.addr))?,
            addr: instance.addr,
        });
    }
    hosts.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(hosts)
}
