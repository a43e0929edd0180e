//! One host's network: the bridge its jobs hang on, their addresses, and the one set of firewall
//! rules that says who may reach whom.
//!
//! It knows nothing of other hosts but their addresses and the device that leads to them (the overlay's
//! business), of services
//! (discoverd's) or of what runs inside a job. Everything it makes carries a configured name, so that
//! several hosts can run side by side in network namespaces of their own.
//!
//! ```no_run
//! # async fn example(job: kit_ids::JobId) -> Result<(), Box<dyn std::error::Error>> {
//! use host_network::{Config, JobRequest, Network, Partition, Subnet};
//! let network = Network::open(Config::new("/var/lib/flynn/network", "192.0.2.10".parse()?)).await?;
//! network.configure("100.100.12.1/24".parse::<Subnet>()?, 1450).await?;
//! let net = network.attach_job(JobRequest::new(job, Partition::User)).await?;
//! println!("start it in {} as {}", net.netns.display(), net.ip);
//! # Ok(()) }
//! ```
#![warn(missing_docs)]

mod addresses;
mod config;
mod durable;
mod fastpath;
mod forwarding;
mod job;
mod link;
mod names;
mod namespace;
mod network;
mod nft;
mod outward;
mod overlay;
mod ruleset;
mod subnet;

pub use addresses::NoAddress;
pub use config::Config;
pub use job::{Endpoint, JobNetwork, JobRequest, Partition, PartitionError};
pub use link::LinkError;
pub use names::{BridgeName, NameError, TableName, VethPrefix};
pub use network::{Network, NetworkError, Restored};
pub use nft::NftError;
pub use outward::outward_address;
pub use overlay::{Overlay, Range, RangeError, Way};
pub use ruleset::PortRange;
pub use subnet::{Subnet, SubnetError};
