//! Where the database is and how patient we are with it. The password never shows.

use std::time::Duration;

use tokio_postgres::NoTls;
use tokio_postgres::config::TargetSessionAttrs;

use crate::error::PgError;

/// How long one connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may stay unacknowledged: a primary that lost its power says nothing.
const SILENCE: Duration = Duration::from_secs(15);
/// How long one statement may run; the server enforces it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a database is, and as whom to go there.
#[derive(Clone)]
pub struct Settings {
    config: tokio_postgres::Config,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL or connection string is malformed.
    #[error("the database URL cannot be read")]
    Url(#[source] tokio_postgres::Error),
    /// Neither a URL nor a host is given.
    #[error("no database is configured: set DATABASE_URL or PGHOST")]
    Missing,
    /// `PGPORT` is no port.
    #[error("PGPORT {0:?} is no port")]
    Port(String),
}

impl Settings {
    /// From `postgres://user:password@host:port/database` or a `key=value` string.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        url.parse().map(Self::new).map_err(SettingsError::Url)
    }

    /// From `DATABASE_URL`, else from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and `PGDATABASE`, read
    /// through `get`.
    ///
    /// # Errors
    /// When nothing is set or what is set is malformed.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let given = |key: &str| get(key).filter(|value| !value.is_empty());
        if let Some(url) = given("DATABASE_URL") {
            return Self::from_url(&url);
        }
        let mut config = tokio_postgres::Config::new();
        config.host(given("PGHOST").ok_or(SettingsError::Missing)?);
        if let Some(port) = given("PGPORT") {
            config.port(port.parse().map_err(|_| SettingsError::Port(port))?);
        }
        if let Some(user) = given("PGUSER") {
            config.user(user);
        }
        if let Some(password) = given("PGPASSWORD") {
            config.password(password);
        }
        if let Some(database) = given("PGDATABASE") {
            config.dbname(database);
        }
        Ok(Self::new(config))
    }

    fn new(mut config: tokio_postgres::Config) -> Self {
        let timeout = format!("-c statement_timeout={}", STATEMENT_TIMEOUT.as_millis());
        let options = match config.get_options() {
            Some(own) => format!("{own} {timeout}"),
            None => timeout,
        };
        config
            .options(options)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE)
            // A standby would accept the connection and refuse every change.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Self { config }
    }

    /// The same server, another database.
    #[must_use]
    pub fn database(&self, name: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(name);
        Self { config }
    }

    /// The same, shown under this name in `pg_stat_activity`.
    #[must_use]
    pub fn application(&self, name: &str) -> Self {
        let mut config = self.config.clone();
        config.application_name(name);
        Self { config }
    }

    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// A connection outside any pool, and what drives it.
    pub(crate) async fn connect(&self) -> Result<(tokio_postgres::Client, Connection), PgError> {
        let connecting = self.config.connect(NoTls);
        match tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(PgError::Timeout { what: "a connection" }),
        }
    }
}

pub(crate) type Connection =
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .field("user", &self.config.get_user())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_a_url_or_single_variables() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            Settings::from_env(move |key| {
                pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
            })
        };
        let url = read(&[("DATABASE_URL", "postgres://u:secret@h:1/d"), ("PGHOST", "x")]).unwrap();
        let single = read(&[
            ("PGHOST", "h"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "secret"),
            ("PGDATABASE", "d"),
        ]);
        for settings in [url, single.unwrap()] {
            let shown = format!("{settings:?}");
            assert!(shown.contains("\"h\"") && shown.contains("\"d\""), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert!(matches!(read(&[("PGHOST", "")]), Err(SettingsError::Missing)));
        assert!(matches!(
            read(&[("PGHOST", "h"), ("PGPORT", "x")]),
            Err(SettingsError::Port(port)) if port == "x"
        ));
        assert!(Settings::from_url("postgres://h:port/").is_err());
    }
}
