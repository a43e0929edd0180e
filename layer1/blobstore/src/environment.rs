//! The environment of a blobstore's job, read into settings (spec/platform.md §3).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use kit_auth::Keys;
use kit_pg::{Settings, SettingsError};

use crate::contents::Backend;
use crate::server::Config;

const PORT: u16 = 3001;
/// The largest file: a slug or layer of a very large app.
const MAX_SIZE: u64 = 16 << 30;

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// PORT is no port.
    #[error("PORT={0:?} is not a port: a number from 0 to 65535 is")]
    Port(String),
    /// An unknown place for contents.
    #[error("DEFAULT_BACKEND={0:?} is not known: use postgres or fs")]
    Backend(String),
    /// No usable database.
    #[error("no database")]
    Database(#[from] SettingsError),
}

impl Config {
    /// From PORT, DATABASE_URL or PG*, DEFAULT_BACKEND, BLOBSTORE_DIR and CONTROLLER_KEY.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let port = match set("PORT") {
            Some(port) => port.parse().map_err(|_| EnvironmentError::Port(port))?,
            None => PORT,
        };
        let backend = match set("DEFAULT_BACKEND").as_deref() {
            None | Some("postgres") => Backend::Postgres,
            Some("fs") => Backend::Fs,
            Some(other) => return Err(EnvironmentError::Backend(other.to_owned())),
        };
        let directory = set("BLOBSTORE_DIR").map(PathBuf::from);
        let default = || (backend == Backend::Fs).then(|| PathBuf::from("/data"));
        Ok(Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            database: Settings::from_env(&get)?.application("blobstore"),
            backend,
            directory: directory.or_else(default),
            keys: Keys::parse(&set("CONTROLLER_KEY").unwrap_or_default()),
            max_size: MAX_SIZE,
            version: "dev".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_go_where_the_environment_says() {
        for (backend, want) in
            [("", Some(Backend::Postgres)), ("fs", Some(Backend::Fs)), ("s3x", None)]
        {
            let config = Config::from_env(|name| match name {
                "PGHOST" => Some("h".to_owned()),
                "DEFAULT_BACKEND" => Some(backend.to_owned()),
                _ => None,
            });
            assert_eq!(config.ok().map(|config| config.backend), want, "{backend}");
        }
        let error = Config::from_env(|_| None).unwrap_err();
        assert_eq!(error.to_string(), "no database");
    }
}
