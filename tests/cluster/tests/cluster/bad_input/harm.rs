//! What must be as it was after bad input: the platform's own jobs, what the host knows of the cluster, its
//! services, and no panic said.

use anyhow::{Context as _, ensure};
use cluster_tests::Platform;
use host_api::{DiscoverdConfig, NetworkConfig};

/// Apps of the platform whose logs are read.
const APPS: [&str; 7] =
    ["controller", "scheduler", "router", "gitreceive", "blobstore", "logaggregator", "postgres"];
/// What Rust says of a thread or task that panicked.
const PANIC: &str = "panicked at";

/// The platform before.
pub(super) struct Before {
    jobs: Vec<String>,
    discoverd: Option<DiscoverdConfig>,
    network: Option<NetworkConfig>,
}

impl Before {
    pub(super) async fn note(platform: &Platform) -> anyhow::Result<Self> {
        let status = platform.node.client.status().await?;
        let (discoverd, network) = (status.discoverd, status.network);
        Ok(Self { jobs: jobs(platform).await?, discoverd, network })
    }

    /// Fails when something is not as it was.
    pub(super) async fn has_stayed(&self, platform: &Platform) -> anyhow::Result<()> {
        let now = jobs(platform).await?;
        let log = platform.node.log();
        ensure!(now == self.jobs, "jobs came or went: {now:#?}, before {:#?}\n{log}", self.jobs);
        let status = platform.node.client.status().await?;
        ensure!(status.discoverd == self.discoverd, "another discovery: {:?}", status.discoverd);
        ensure!(status.network == self.network, "another network: {:?}", status.network);
        ensure!(platform.flynn(&["apps"])?.contains("controller"), "the controller is gone");
        let panics = platform.node.log_lines(PANIC);
        ensure!(panics.is_empty(), "the daemon: {panics:#?}");
        for app in APPS {
            let said = platform.flynn(&["-a", app, "log", "-r"]).with_context(|| app.to_owned())?;
            let panics: Vec<_> = said.lines().filter(|line| line.contains(PANIC)).collect();
            ensure!(panics.is_empty(), "{app}: {panics:#?}");
        }
        Ok(())
    }
}

/// The jobs of the platform itself that run.
async fn jobs(platform: &Platform) -> anyhow::Result<Vec<String>> {
    let active = platform.node.client.active_jobs().await?;
    let of_platform = active.iter().filter(|(_, job)| job.job.partition == "system");
    Ok(of_platform.map(|(id, _)| id.to_string()).collect())
}
