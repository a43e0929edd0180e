//! The loaded programs, and what they know: which job is behind which link, and whether there is a tunnel.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use kit_bpf::{AssembleError, BpfError, Kind, Map, Program};

use crate::config::Config;
use crate::job::Partition;
use crate::overlay::Range;
use crate::ruleset::label;

use super::code;

/// More than a host has jobs.
const MAX_JOBS: u32 = 1 << 16;

/// Both programs, and what they know.
#[derive(Debug)]
pub(super) struct Tables {
    /// From a job's address to `{u32 link, u32 class}`.
    jobs: Map,
    /// From 0 to a [`Tunnel`], if there is one.
    tunnel: Map,
    /// What stands there: the number of its link, or 0.
    link: AtomicU32,
    /// For packets that come from a job.
    pub(super) from_job: Program,
    /// For packets that come out of the tunnel.
    pub(super) from_tunnel: Program,
}

/// The way to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// The device's number.
    pub(super) link: u32,
    /// All hosts' subnets together.
    pub(super) network: Range,
    /// This host's.
    pub(super) own: Range,
}

/// Why there is no short way on this host.
#[derive(Debug, thiserror::Error)]
pub(super) enum FastPathError {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] BpfError),
    /// Ourselves.
    #[error(transparent)]
    Code(#[from] AssembleError),
}

impl Tables {
    /// Loads both programs; nothing is attached yet, and they know nobody.
    pub(super) fn load(config: &Config) -> Result<Self, FastPathError> {
        let (jobs, tunnel) = (Map::new(4, 8, MAX_JOBS)?, Map::new(4, 20, 1)?);
        let ports = &config.database_ports;
        let from_job = code::from_job(&jobs, &tunnel, ports)?;
        let from_tunnel = code::from_tunnel(&jobs, &tunnel, ports)?;
        let from_job = Program::load(Kind::Packets, "flynn_job", &from_job)?;
        let from_tunnel = Program::load(Kind::Packets, "flynn_tunnel", &from_tunnel)?;
        Ok(Self { jobs, tunnel, link: AtomicU32::new(0), from_job, from_tunnel })
    }

    /// The job with this address is behind this link, where the program is attached.
    pub(super) fn put(&self, ip: Ipv4Addr, link: u32, of: Partition) -> Result<(), BpfError> {
        let value = [link.to_ne_bytes(), class(of).to_ne_bytes()].concat();
        self.jobs.set(&ip.octets(), &value)
    }

    /// Nobody has this address any more.
    pub(super) fn remove(&self, ip: Ipv4Addr) -> Result<(), BpfError> {
        self.jobs.remove(&ip.octets())
    }

    /// Other hosts are behind this device, where the program is attached; or behind none.
    pub(super) fn lead(&self, way: Option<Tunnel>) -> Result<(), BpfError> {
        let Some(way) = way else {
            self.link.store(0, Ordering::Relaxed);
            return self.tunnel.remove(&[0; 4]);
        };
        let block = |range: Range| [range.first(), range.mask()].map(|ip| ip.octets());
        let [network, own] = [way.network, way.own].map(block);
        let value = [network, own].concat().concat();
        self.tunnel.set(&[0; 4], &[&value[..], &way.link.to_ne_bytes()].concat())?;
        self.link.store(way.link, Ordering::Relaxed);
        Ok(())
    }

    /// Whether other hosts are behind this device already.
    pub(super) fn leads(&self, link: u32) -> bool {
        self.link.load(Ordering::Relaxed) == link
    }
}

/// What the programs know of whose a job is: its label as it stands in a packet, above the two bits of ECN.
pub(super) fn class(partition: Partition) -> u32 {
    u32::from(match partition {
        Partition::User => label::USER,
        Partition::Background => label::BACKGROUND,
        Partition::System => label::SYSTEM,
    }) << 2
}
