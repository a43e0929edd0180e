//! What the server needs to know, and every bound it keeps.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kit_units::Bytes;

use crate::settings::{Settings, SettingsError};

const PORT: u16 = 3000;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What the receiver needs.
    pub settings: Settings,
    /// Where working copies are made; emptied at the start.
    pub directory: PathBuf,
    /// The program git starts as the hook: this one, under another name.
    pub hook_program: PathBuf,
    /// Which protocols git may use for submodules, as `GIT_ALLOW_PROTOCOL` lists them.
    pub protocols: String,
    /// The search path of git and its helpers.
    pub path: String,
    /// The bounds.
    pub limits: Limits,
    /// Version shown by the status.
    pub version: String,
}

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pushes at one time; each holds a repository on disk and waits for a build.
    pub pushes: usize,
    /// Reading requests at one time.
    pub reads: usize,
    /// How long a request waits for one of these places, or for another push to its app.
    pub queue: Duration,
    /// What one push may send.
    pub body: Bytes,
    /// How large a stored repository may be.
    pub repository: Bytes,
    /// How long one request may take: as long as a build may use its token.
    pub request: Duration,
    /// How long a client may send nothing while it is its turn.
    pub silence: Duration,
    /// How long git and the hook have to end after they were asked to, so that the hook can stop its
    /// build job.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pushes: 8,
            reads: 16,
            queue: Duration::from_secs(60),
            body: Bytes::gib(2),
            repository: Bytes::gib(4),
            request: Duration::from_secs(3600),
            silence: Duration::from_secs(300),
            grace: Duration::from_secs(15),
        }
    }
}

/// Why the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// PORT is no port.
    #[error("PORT={0:?} is not a port: a number from 0 to 65535 is")]
    Port(String),
    /// What the receiver needs is not there.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// This program cannot be found again.
    #[error("the path of this program is not known")]
    Program(#[source] std::io::Error),
}

impl Config {
    /// From PORT, TMPDIR, GIT_ALLOW_PROTOCOL, PATH and what [`Settings`] reads.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: std::collections::BTreeMap<_, _> = variables.into_iter().collect();
        let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let port = match set("PORT") {
            Some(port) => port.parse().map_err(|_| ConfigError::Port(port))?,
            None => PORT,
        };
        let directory = PathBuf::from(set("TMPDIR").unwrap_or_else(|| "/tmp".to_owned()));
        Ok(Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            directory: directory.join("gitreceive"),
            hook_program: std::env::current_exe().map_err(ConfigError::Program)?,
            protocols: set("GIT_ALLOW_PROTOCOL").unwrap_or_else(|| "http:https:ssh:git".to_owned()),
            path: set("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
            limits: Limits::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: Settings::from_env(variables.clone())?,
        })
    }
}
