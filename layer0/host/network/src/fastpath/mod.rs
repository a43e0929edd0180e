//! The short way between jobs: a program at each job's link hands a packet straight to the link of the job it
//! is for, past the bridge, the routing table, connection tracking and the firewall's chains. ADR 10 says why.
//!
//! Connection tracking sees nothing of such a flow, so a flow takes the short way with all its packets, in
//! both directions, or with none. What belongs to it is therefore told from a packet's addresses, ports and
//! label alone, and only flows of which the firewall would let pass every packet in either direction,
//! whoever began:
//! - between user jobs, and between system jobs of one host;
//! - between any job and a database port of a system job;
//! - between a user job and whatever is behind the tunnel: what it sends, its host lets out anyway, and what
//!   a known host labelled, it may get.
//!
//! Everything else goes the long way, and so does everything where the kernel has no such programs.

mod code;
mod tables;

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Once;

use kit_bpf::Program;
use rtnetlink::Handle;

use crate::addresses::Lease;
use crate::config::Config;
use crate::link::{self, LinkError};
use crate::names::VethPrefix;
use crate::overlay::Overlay;
use crate::subnet::Subnet;

use tables::{Tables, Tunnel};

/// A host's short way. Nothing here fails: what cannot be done is told, and goes the long way.
#[derive(Debug)]
pub(crate) struct FastPath {
    /// Where the kernel takes it, and nobody wants to do without.
    tables: Option<Tables>,
    veth_prefix: VethPrefix,
    told: Once,
}

impl FastPath {
    /// Loads the programs. They know nobody yet, and nothing is attached.
    pub(crate) fn open(config: &Config) -> Self {
        let (veth_prefix, told) = (config.veth_prefix.clone(), Once::new());
        let mut all = Self { tables: None, veth_prefix, told };
        if config.fast_path {
            match Tables::load(config) {
                Ok(tables) => all.tables = Some(tables),
                Err(error) => all.tell(&error),
            }
        }
        all
    }

    /// After a start of the daemon, when an earlier one's programs still decide by tables that nobody can
    /// change any more: takes their places, or takes them out.
    pub(crate) async fn take_over(
        &self,
        leases: &[Lease],
        overlay: Option<&Overlay>,
        subnet: Option<Subnet>,
    ) {
        if self.add(leases).await {
            self.follow(overlay, subnet).await;
            return;
        }
        let jobs = leases.iter().map(|lease| link::veth_name(&self.veth_prefix, lease.ip));
        let tunnel = overlay.and_then(Overlay::device);
        let removed = link::with_netlink(async |handle| {
            for name in jobs.chain(tunnel) {
                if let Some(index) = link::find_index(&handle, &name).await? {
                    link::undecide(&handle, index).await?;
                }
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "an earlier daemon's programs still decide about packets");
        }
    }

    /// For jobs whose links exist. Answers whether it can be done at all; then none of their links is left
    /// to an earlier program.
    pub(crate) async fn add(&self, leases: &[Lease]) -> bool {
        let Some(tables) = &self.tables else { return false };
        let added = self.attach(tables, leases).await;
        if let Err(error) = &added {
            self.tell(error);
            // Some links have their program, others do not: then none is known.
            for lease in leases {
                self.remove(lease.ip);
            }
        }
        added.is_ok()
    }

    /// All are known before the first program knows one of them: between two jobs packets go the same way in
    /// both directions.
    async fn attach(&self, tables: &Tables, leases: &[Lease]) -> Result<(), LinkError> {
        link::with_netlink(async |handle| {
            let mut links = Vec::new();
            for lease in leases {
                let name = link::veth_name(&self.veth_prefix, lease.ip);
                links.extend(link::find_index(&handle, &name).await?.map(|index| (lease, index)));
            }
            for (lease, index) in &links {
                self.note(tables.put(lease.ip, *index, lease.partition));
            }
            for (lease, index) in links {
                // A job whose link has no program is not known either.
                if let Err(error) = replace(&handle, index, &tables.from_job).await {
                    self.tell(&error);
                    self.remove(lease.ip);
                }
            }
            Ok(())
        })
        .await
    }

    /// Before a job's link goes.
    pub(crate) fn remove(&self, ip: Ipv4Addr) {
        self.note(self.tables.as_ref().map_or(Ok(()), |tables| tables.remove(ip)));
    }

    /// To other hosts, if there is a tunnel; its device is made by somebody else, and may be made anew.
    pub(crate) async fn follow(&self, overlay: Option<&Overlay>, subnet: Option<Subnet>) {
        let Some(tables) = &self.tables else { return };
        match self.tunnel(tables, overlay, subnet).await {
            Ok(way) => self.note(tables.lead(way)),
            // Nobody said that it is gone: it stays as it was until the next look.
            Err(error) => self.tell(&error),
        }
    }

    async fn tunnel(
        &self,
        tables: &Tables,
        overlay: Option<&Overlay>,
        subnet: Option<Subnet>,
    ) -> Result<Option<Tunnel>, LinkError> {
        let Some((overlay, subnet)) = overlay.zip(subnet) else { return Ok(None) };
        let Some(device) = overlay.device() else { return Ok(None) };
        let (network, own) = (overlay.network, subnet.range());
        link::with_netlink(async |handle| {
            let Some(link) = link::find_index(&handle, &device).await? else { return Ok(None) };
            if !tables.leads(link) {
                replace(&handle, link, &tables.from_tunnel).await?;
            }
            Ok(Some(Tunnel { link, network, own }))
        })
        .await
    }

    fn note<E: Error + 'static>(&self, done: Result<(), E>) {
        if let Err(error) = done {
            self.tell(&error);
        }
    }

    /// Once: it is the same for every job.
    fn tell(&self, error: &(dyn Error + 'static)) {
        self.told.call_once(|| {
            tracing::warn!(error, "packets between jobs go the long way, by bridge and firewall");
        });
    }
}

/// Has this program decide about a link's packets, or none: not an earlier daemon's.
async fn replace(handle: &Handle, index: u32, by: &Program) -> Result<(), LinkError> {
    let decided = link::decide(handle, index, by).await;
    if decided.is_err() {
        link::undecide(handle, index).await?;
    }
    decided
}

#[cfg(test)]
mod tests;
