//! The network of jobs behind a seam: host-network on a real host, something without a kernel in tests.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use host_network::{JobNetwork, JobRequest, Network, NetworkError, Overlay, Restored, Subnet};
use kit_ids::JobId;

/// What the daemon needs of a host's network; see [`Network`].
#[async_trait]
pub trait Nets: Send + Sync + fmt::Debug {
    /// Makes the bridge.
    async fn configure(&self, subnet: Subnet, mtu: u32) -> Result<(), NetworkError>;
    /// Gives a job an address and a namespace.
    async fn attach_job(&self, request: JobRequest) -> Result<JobNetwork, NetworkError>;
    /// Takes them away.
    async fn detach_job(&self, job: &JobId) -> Result<(), NetworkError>;
    /// Keeps the networks of these jobs and removes all others.
    async fn restore(&self, running: &BTreeSet<JobId>) -> Result<Restored, NetworkError>;
    /// Prepares for the next job.
    async fn make_ready(&self) -> Result<(), NetworkError> {
        Ok(())
    }
    /// The hosts of the cluster.
    async fn set_known_hosts(&self, hosts: Vec<Ipv4Addr>) -> Result<(), NetworkError>;
    /// The way to their jobs.
    async fn set_overlay(&self, overlay: Overlay) -> Result<(), NetworkError>;
    /// Takes notice of the device that leads there, which somebody else makes.
    async fn follow_tunnel(&self) {}
}

#[async_trait]
impl Nets for Network {
    async fn configure(&self, subnet: Subnet, mtu: u32) -> Result<(), NetworkError> {
        Self::configure(self, subnet, mtu).await
    }
    async fn attach_job(&self, request: JobRequest) -> Result<JobNetwork, NetworkError> {
        Self::attach_job(self, request).await
    }
    async fn detach_job(&self, job: &JobId) -> Result<(), NetworkError> {
        Self::detach_job(self, job).await
    }
    async fn restore(&self, running: &BTreeSet<JobId>) -> Result<Restored, NetworkError> {
        Self::restore(self, running).await
    }
    async fn make_ready(&self) -> Result<(), NetworkError> {
        Self::make_ready(self).await
    }
    async fn set_known_hosts(&self, hosts: Vec<Ipv4Addr>) -> Result<(), NetworkError> {
        Self::set_known_hosts(self, hosts).await
    }
    async fn set_overlay(&self, overlay: Overlay) -> Result<(), NetworkError> {
        Self::set_overlay(self, overlay).await
    }
    async fn follow_tunnel(&self) {
        Self::follow_tunnel(self).await;
    }
}
