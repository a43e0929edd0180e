//! What the aggregator needs to know, and where its environment says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The service aggregators register in, unless SERVICE_NAME says otherwise.
pub const DEFAULT_SERVICE: &str = "logaggregator";

/// How much memory buffered lines may take in all. When it is used up, the largest app loses its oldest.
const MAX_BYTES: usize = 256 << 20;

const HTTP_PORT: u16 = 5000;
const SYSLOG_PORT: u16 = 3000;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where hosts send lines.
    pub syslog: SocketAddr,
    /// How much memory buffered lines may take.
    pub max_bytes: usize,
    /// The version on the status page.
    pub version: String,
    /// How others find this aggregator; None for one that stands alone.
    pub registration: Option<Registration>,
}

/// How others find an aggregator.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Where to register.
    pub discoverd: discoverd_api::Client,
    /// The service's name.
    pub service: String,
    /// The address under which hosts and other aggregators reach this one.
    pub address: IpAddr,
}

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A port is no port.
    #[error("{name}={value:?} is not a port: a number from 0 to 65535 is")]
    Port {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// EXTERNAL_IP is missing or no address.
    #[error("EXTERNAL_IP={0:?} is not an IP address: set it, or DISCOVERD=none to stand alone")]
    Address(String),
    /// DISCOVERD names no usable server.
    #[error("DISCOVERD cannot be used")]
    Discoverd(#[from] discoverd_api::DiscoverdError),
}

impl Config {
    /// The configuration that these variables give: PORT_0 (HTTP, 5000), PORT_1 (syslog, 3000),
    /// SERVICE_NAME, EXTERNAL_IP, DISCOVERD.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let listen = |name: &'static str, default: u16| {
            let value = set(name).unwrap_or_else(|| default.to_string());
            let port: u16 = value.parse().map_err(|_| ConfigError::Port { name, value })?;
            Ok::<_, ConfigError>(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        };
        let discoverd = set("DISCOVERD").unwrap_or_default();
        let registration = if discoverd == "none" {
            None
        } else {
            let address = set("EXTERNAL_IP").unwrap_or_default();
            let address = address.parse().map_err(|_| ConfigError::Address(address))?;
            let discoverd = discoverd_api::Client::new(&discoverd_api::Servers::parse(&discoverd))?;
            let service = set("SERVICE_NAME").unwrap_or_else(|| DEFAULT_SERVICE.to_owned());
            Some(Registration { discoverd, service, address })
        };
        Ok(Self {
            http: listen("PORT_0", HTTP_PORT)?,
            syslog: listen("PORT_1", SYSLOG_PORT)?,
            max_bytes: MAX_BYTES,
            version: "dev".to_owned(),
            registration,
        })
    }

    /// An aggregator on loopback, with ports of the system's choice, that registers nowhere.
    pub fn alone() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let version = "dev".to_owned();
        Self { http: any, syslog: any, max_bytes: MAX_BYTES, version, registration: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(env: &[(&str, &str)]) -> Result<Config, String> {
        let find =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        Config::from_env(find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_is_read_with_its_defaults() {
        let one = config(&[("DISCOVERD", "none")]).unwrap();
        assert_eq!((one.http.port(), one.syslog.port()), (5000, 3000));
        assert!(one.registration.is_none());
        let two =
            config(&[("PORT_0", "80"), ("PORT_1", "514"), ("EXTERNAL_IP", "192.0.2.1")]).unwrap();
        assert_eq!((two.http.port(), two.syslog.port()), (80, 514));
        let registration = two.registration.unwrap();
        assert_eq!(
            (registration.service.as_str(), registration.address.to_string().as_str()),
            ("logaggregator", "192.0.2.1")
        );
    }

    #[test]
    fn wrong_values_say_what_to_do() {
        let error = config(&[("PORT_0", "x"), ("DISCOVERD", "none")]).unwrap_err();
        assert_eq!(error, "PORT_0=\"x\" is not a port: a number from 0 to 65535 is");
        let error = config(&[]).unwrap_err();
        assert_eq!(
            error,
            "EXTERNAL_IP=\"\" is not an IP address: set it, or DISCOVERD=none to stand alone"
        );
    }
}
