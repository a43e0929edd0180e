//! What the overlay needs to know, and how the environment says it (spec/platform.md §1.1).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use netplan::{BackendKind, Block, ConfigInput};

/// The settings of one host's overlay.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `/ping` and the status are answered.
    pub listen: SocketAddr,
    /// This host's address for the others; leases are told apart by it.
    pub external_ip: Ipv4Addr,
    /// The host daemon.
    pub host_url: String,
    /// The job this runs as, for the host's book; empty outside a job.
    pub job_id: String,
    /// Where the lease is remembered.
    pub data_dir: PathBuf,
    /// The cluster's network, where none is agreed on yet: what discoverd has wins.
    pub network: ConfigInput,
    /// How packets get from host to host, where nothing is agreed on yet. Without one: not at all while
    /// there is one host, by VXLAN as soon as there are more.
    pub backend: Option<BackendKind>,
    /// The largest packet of a job; by default that of the link with the external address, less what a
    /// tunnel needs where there is or may come one.
    pub mtu: Option<u32>,
    /// How often leases and kernel are looked at when nobody says that they changed.
    pub recheck: Duration,
}

/// A variable that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing where something must be.
    #[error("the variable {0} must be set")]
    Missing(&'static str),
    /// Something that cannot be.
    #[error("the variable {name} is {value:?}: {reason}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        reason: String,
    },
}

const DEFAULT_NETWORK: &str = "100.100.0.0/16";
const DEFAULT_PORT: u16 = 5002;
/// How long a way between hosts that somebody broke stays broken.
const RECHECK: Duration = Duration::from_secs(10);

impl Config {
    /// Reads `EXTERNAL_IP`, `PORT`, `NETWORK`, `BACKEND`, `FLYNN_JOB_ID`, `HOST_URL` and `DATA_DIR`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &'static str| get(name).filter(|value| !value.is_empty());
        let external_ip = get("EXTERNAL_IP").ok_or(ConfigError::Missing("EXTERNAL_IP"))?;
        let external_ip: Ipv4Addr = parsed("EXTERNAL_IP", external_ip)?;
        let port = get("PORT").map_or(Ok(DEFAULT_PORT), |port| parsed("PORT", port))?;
        let backend = get("BACKEND").map(|backend| parsed("BACKEND", backend)).transpose()?;
        let network = get("NETWORK").unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
        let network: Block = parsed("NETWORK", network)?;
        Ok(Self {
            listen: (external_ip, port).into(),
            external_ip,
            host_url: get("HOST_URL").unwrap_or_else(|| format!("http://{external_ip}:1113")),
            job_id: get("FLYNN_JOB_ID").unwrap_or_default(),
            data_dir: get("DATA_DIR").unwrap_or_else(|| "/data".to_owned()).into(),
            network: ConfigInput::of(network),
            backend,
            mtu: None,
            recheck: RECHECK,
        })
    }
}

fn parsed<T>(name: &'static str, value: String) -> Result<T, ConfigError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let wrong = |error: T::Err| error.to_string();
    value.parse().map_err(wrong).map_err(|reason| ConfigError::Wrong { name, value, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Config::from_env(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn only_the_address_has_no_default() {
        let config = read(&[("EXTERNAL_IP", "192.0.2.10"), ("NETWORK", "")]).unwrap();
        assert_eq!(config.listen.to_string(), "192.0.2.10:5002");
        assert_eq!(config.host_url, "http://192.0.2.10:1113");
        assert_eq!(config.network.network.to_string(), "100.100.0.0/16");
        assert_eq!(config.backend, None);
        let backend = read(&[("EXTERNAL_IP", "192.0.2.10"), ("BACKEND", "host-gw")]).unwrap();
        assert_eq!(backend.backend, Some(BackendKind::HostGw));
        assert_eq!(read(&[]).unwrap_err().to_string(), "the variable EXTERNAL_IP must be set");
    }

    #[test]
    fn wrong_values_say_which_variable() {
        for (name, value, message) in [
            ("PORT", "x", "the variable PORT is \"x\": invalid digit found in string"),
            (
                "BACKEND",
                "udp",
                "the variable BACKEND is \"udp\": \"udp\" is no backend: there are alloc, host-gw and vxlan",
            ),
        ] {
            let error = read(&[("EXTERNAL_IP", "192.0.2.10"), (name, value)]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
