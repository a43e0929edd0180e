//! The environment of the appliance's jobs, read into settings (spec/appliances.md §5, §9).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::peer;
use crate::provision::{self, Connection, Secret};

const DATABASE_PORT: u16 = 5432;
const API_PORT: u16 = 3000;
const SERVICE: &str = "postgres";
/// What an instance says about the job it runs in.
const JOB_VARIABLES: [&str; 5] =
    ["FLYNN_APP_ID", "FLYNN_APP_NAME", "FLYNN_RELEASE_ID", "FLYNN_PROCESS_TYPE", "FLYNN_JOB_ID"];

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Nothing works without it.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A port is no port.
    #[error("{name}={value:?} is not a port: a number from 0 to 65535 is")]
    Port {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &'static str) -> Result<String, EnvironmentError> {
        self.get(name).ok_or(EnvironmentError::Missing(name))
    }

    fn port(&self, name: &'static str, default: u16) -> Result<u16, EnvironmentError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.parse().map_err(|_| EnvironmentError::Port { name, value })
    }
}

impl peer::Config {
    /// From FLYNN_POSTGRES, EXTERNAL_IP, PGPASSWORD, PORT, HTTP_PORT and what names the job.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let env = Environment(get);
        let port = env.port("PORT", DATABASE_PORT)?;
        let http = env.port("HTTP_PORT", port.saturating_add(1))?;
        let named = |name: &&str| env.get(name).map(|value| ((*name).to_owned(), value));
        Ok(Self {
            service: env.get("FLYNN_POSTGRES").unwrap_or_else(|| SERVICE.to_owned()),
            port,
            http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, http)),
            external_ip: env.need("EXTERNAL_IP")?,
            volume: PathBuf::from("/data"),
            socket_dir: PathBuf::from("/run/postgresql"),
            account: None,
            password: Secret(env.need("PGPASSWORD")?),
            meta: JOB_VARIABLES.iter().filter_map(named).collect(),
            version: "dev".to_owned(),
        })
    }
}

impl provision::Config {
    /// From PORT, FLYNN_POSTGRES, PGHOST, PGPORT, PGUSER and PGPASSWORD.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let env = Environment(get);
        let service = env.get("FLYNN_POSTGRES").unwrap_or_else(|| SERVICE.to_owned());
        let leader = || format!("leader.{service}.discoverd");
        Ok(Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, env.port("PORT", API_PORT)?)),
            connection: Connection {
                host: env.get("PGHOST").unwrap_or_else(leader),
                port: env.port("PGPORT", DATABASE_PORT)?,
                user: env.get("PGUSER").unwrap_or_else(|| "flynn".to_owned()),
                password: Secret(env.need("PGPASSWORD")?),
            },
            service,
            version: "dev".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_peer_needs_its_address_and_the_password() {
        let config = peer::Config::from_env(lookup(&[
            ("EXTERNAL_IP", "100.100.1.2"),
            ("PGPASSWORD", "secret"),
            ("PORT", "5432"),
            ("FLYNN_JOB_ID", "host1-x"),
        ]));
        let config = config.unwrap();
        assert_eq!(
            (config.port, config.http.port(), config.service.as_str()),
            (5432, 5433, "postgres")
        );
        assert_eq!(config.meta, [("FLYNN_JOB_ID".to_owned(), "host1-x".to_owned())]);
        let error = peer::Config::from_env(lookup(&[("EXTERNAL_IP", "x")])).unwrap_err();
        assert_eq!(error.to_string(), "PGPASSWORD is not set");
    }

    #[test]
    fn the_provisioner_finds_the_primary_by_name() {
        let config = provision::Config::from_env(lookup(&[("PGPASSWORD", "secret")])).unwrap();
        assert_eq!(config.connection.host, "leader.postgres.discoverd");
        let bad = lookup(&[("PGPASSWORD", "secret"), ("PORT", "x")]);
        let error = provision::Config::from_env(bad).unwrap_err();
        assert_eq!(error.to_string(), "PORT=\"x\" is not a port: a number from 0 to 65535 is");
    }
}
