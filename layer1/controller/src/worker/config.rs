//! What a worker is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use discoverd_api::Client as Discoverd;
use kit_pg::Settings;

use crate::config::ConfigError;

/// How long a claim holds without being renewed: how long a killed worker's work waits.
const LEASE: Duration = Duration::from_secs(10);
/// How long jobs of a new release have to stay up before old ones go.
const PROBATION: Duration = Duration::from_secs(5);
/// How long an image that was built may wait for its release: much longer than any push takes.
const UNRELEASED: Duration = Duration::from_secs(24 * 3600);
/// How often such images are looked for.
const COLLECTION: Duration = Duration::from_secs(3600);

/// Everything a worker is told.
#[derive(Debug)]
pub struct Config {
    /// Where the status page listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The controller's database.
    pub database: Settings,
    /// Where hosts and the blob store are found.
    pub discoverd: Option<Discoverd>,
    /// The key for the blob store.
    pub key: String,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// How long jobs of a new release have to stay up before old ones go.
    pub probation: Duration,
    /// How long an image in the blob store may be without a release.
    pub unreleased: Duration,
    /// How often such images are looked for.
    pub collection: Duration,
    /// What the status page calls this build.
    pub version: String,
}

impl Config {
    /// From the environment of the controller's app, which the worker is a process of.
    ///
    /// # Errors
    /// When a variable is missing or malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let config = crate::Config::from_env(get)?;
        Ok(Self {
            listen: config.listen,
            key: config.keys.first().unwrap_or_default().to_owned(),
            database: config.database,
            discoverd: config.discoverd,
            lease: LEASE,
            probation: PROBATION,
            unreleased: UNRELEASED,
            collection: COLLECTION,
            version: config.version,
        })
    }
}
