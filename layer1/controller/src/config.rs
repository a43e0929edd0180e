//! What the controller is told at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use discoverd_api::Client as Discoverd;
use kit_auth::Keys;
use kit_pg::Settings;

/// The port without `PORT`.
const DEFAULT_PORT: u16 = 3000;

/// Everything the controller is told.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may come in.
    pub keys: Keys,
    /// Where the state is.
    pub database: Settings,
    /// Apps get a route of this domain; none without it.
    pub default_route_domain: Option<String>,
    /// The cluster's CA certificate as PEM.
    pub ca_cert: String,
    /// Where hosts and providers are found. Without it one-off jobs are refused.
    pub discoverd: Option<Discoverd>,
    /// The address to register in discoverd as service `controller`; none where the host does that.
    pub advertise: Option<SocketAddr>,
    /// What `/.well-known/status` shows.
    pub version: String,
}

/// Why the environment makes no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Without a key nobody could come in.
    #[error("AUTH_KEY must hold at least one key")]
    NoKey,
    /// `PORT` is no port.
    #[error("PORT {0:?} is no port")]
    Port(String),
    /// `LISTEN_IP` or `EXTERNAL_IP` is no address.
    #[error("{name} {value:?} is no IP address")]
    Address {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// The database's settings cannot be used.
    #[error("the database's settings cannot be used")]
    Database(#[from] kit_pg::SettingsError),
    /// discoverd's address cannot be used.
    #[error("DISCOVERD cannot be used")]
    Discoverd(#[from] discoverd_api::DiscoverdError),
}

impl Config {
    /// From the environment of the controller's job (spec/controller.md §1), read through `get`.
    ///
    /// # Errors
    /// When a variable is missing or malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| get(name).filter(|value| !value.is_empty());
        let keys = Keys::parse(&given("AUTH_KEY").unwrap_or_default());
        if keys.is_empty() {
            return Err(ConfigError::NoKey);
        }
        let port = match given("PORT") {
            Some(text) => text.parse().map_err(|_| ConfigError::Port(text))?,
            None => DEFAULT_PORT,
        };
        let address = |name: &'static str| -> Result<Option<IpAddr>, ConfigError> {
            let Some(value) = given(name) else { return Ok(None) };
            value.parse().map(Some).map_err(|_| ConfigError::Address { name, value })
        };
        let listen = address("LISTEN_IP")?.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let discoverd = match given("DISCOVERD").as_deref() {
            Some("none") | None => None,
            Some(servers) => Some(Discoverd::new(&discoverd_api::Servers::parse(servers))?),
        };
        let external = address("EXTERNAL_IP")?;
        let registers_itself = given("REGISTER").is_some_and(|value| value == "true");
        Ok(Self {
            listen: SocketAddr::new(listen, port),
            keys,
            database: Settings::from_env(&get)?,
            default_route_domain: given("DEFAULT_ROUTE_DOMAIN"),
            ca_cert: given("CA_CERT").unwrap_or_default(),
            discoverd,
            advertise: external.filter(|_| registers_itself).map(|ip| SocketAddr::new(ip, port)),
            version: given("FLYNN_VERSION").unwrap_or_else(|| "dev".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::from_env(move |name| {
            pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_environment_of_a_job_makes_a_configuration() {
        let database = ("DATABASE_URL", "postgres://u:secret-p@h/d");
        let config = read(&[
            ("AUTH_KEY", "secret-new,secret-old"),
            database,
            ("PORT", "80"),
            ("EXTERNAL_IP", "10.0.0.2"),
            ("REGISTER", "true"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:80");
        assert_eq!(config.advertise.unwrap().to_string(), "10.0.0.2:80");
        assert!(config.keys.contains("secret-old"));
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        assert!(matches!(read(&[database]), Err(ConfigError::NoKey)));
        assert!(matches!(read(&[("AUTH_KEY", ","), database]), Err(ConfigError::NoKey)));
        let bad = read(&[("AUTH_KEY", "k"), database, ("PORT", "x")]);
        assert!(matches!(bad, Err(ConfigError::Port(port)) if port == "x"));
    }
}
