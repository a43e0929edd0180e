//! What the receiver needs to know, read from the environment: of gitreceive's job, of the hook that git
//! starts, of a job in which somebody runs the receiver by hand. The server hands the variables on to git
//! and so to the hook; nothing else passes through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use controller_api::Client;
use discoverd_api::{DiscoverdError, DiscoverdResolver, Servers};
use kit_auth::Keys;
use kit_http::ClientError;
use kit_ids::{ArtifactId, ReleaseId};
use kit_units::Bytes;

use crate::blobs::Blobs;

const CONTROLLER: &str = "http://controller.discoverd";
const BLOBSTORE: &str = "http://blobstore.discoverd";
/// Variables for builds only: the builder makes `PIP_INDEX_URL` of `BUILD_ENV_PIP_INDEX_URL`.
const BUILD_ENV: &str = "BUILD_ENV_";
/// Certificates (PEM) that builds trust beside those of their image.
const CA_BUNDLE: &str = "BUILD_CA_BUNDLE";
/// How long calls of the controller are repeated while it says that this may help.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The variables the receiver reads.
const KNOWN: [&str; 14] = [
    "BLOBSTORE_URL",
    CA_BUNDLE,
    "CONTROLLER_KEY",
    "CONTROLLER_URL",
    "DISCOVERD",
    "FLYNN_JOB_ID",
    "FLYNN_RELEASE_ID",
    "SLUGBUILDER_14_IMAGE_ID",
    "SLUGBUILDER_18_IMAGE_ID",
    "SLUGBUILDER_DEFAULT_MEMORY_LIMIT",
    "SLUGRUNNER_14_IMAGE_ID",
    "SLUGRUNNER_18_IMAGE_ID",
    "SSH_CLIENT_HOSTS",
    "SSH_CLIENT_KEY",
];

/// Why the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no key of the controller.
    #[error("CONTROLLER_KEY is not set")]
    NoKey,
    /// A client cannot be made.
    #[error("the environment names a bad address")]
    Client(#[from] ClientError),
    /// discoverd's address is none.
    #[error("DISCOVERD names no usable address")]
    Discoverd(#[from] DiscoverdError),
}

/// The variables, checked where a person would want to know at once. Secrets: they never show.
#[derive(Clone)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    keys: Keys,
}

/// The two stacks there ever were: what images of the builder and the runner are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackImages {
    Cedar14,
    Heroku18,
}

impl Settings {
    /// Keeps what the receiver reads of these variables.
    ///
    /// # Errors
    /// When there is no key.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let is_known = |name: &str| KNOWN.contains(&name) || name.starts_with(BUILD_ENV);
        let variables: BTreeMap<_, _> = variables
            .into_iter()
            .filter(|(name, value)| is_known(name) && !value.is_empty())
            .collect();
        let keys = Keys::parse(variables.get("CONTROLLER_KEY").map_or("", String::as_str));
        if keys.is_empty() { Err(SettingsError::NoKey) } else { Ok(Self { variables, keys }) }
    }

    /// The variables, for a process that reads them again.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A client of the controller.
    pub(crate) fn controller(&self) -> Result<Client, SettingsError> {
        let url = self.get("CONTROLLER_URL").unwrap_or(CONTROLLER);
        let client = self.client(url)?.retry_for(RETRY_FOR).build()?;
        Ok(Client::from_http(client))
    }

    /// A client of the blob store.
    pub(crate) fn blobs(&self) -> Result<Blobs, SettingsError> {
        Ok(Blobs::new(self.client(self.blobstore_url())?.build()?))
    }

    /// Where the blob store is, for build jobs too.
    pub(crate) fn blobstore_url(&self) -> &str {
        self.get("BLOBSTORE_URL").unwrap_or(BLOBSTORE)
    }

    fn client(&self, url: &str) -> Result<kit_http::ClientBuilder, SettingsError> {
        let builder = kit_http::Client::builder(url)
            .key(self.keys.first().unwrap_or_default())
            .connect_timeout(Duration::from_secs(5));
        let Some(servers) = self.get("DISCOVERD").filter(|list| *list != "none") else {
            return Ok(builder);
        };
        let discoverd = discoverd_api::Client::new(&Servers::parse(servers))?;
        Ok(builder.resolver(Arc::new(DiscoverdResolver::new(discoverd))))
    }

    pub(crate) fn builder_image(&self, images: StackImages) -> Result<ArtifactId, String> {
        self.image(match images {
            StackImages::Cedar14 => "SLUGBUILDER_14_IMAGE_ID",
            StackImages::Heroku18 => "SLUGBUILDER_18_IMAGE_ID",
        })
    }

    pub(crate) fn runner_image(&self, images: StackImages) -> Result<ArtifactId, String> {
        self.image(match images {
            StackImages::Cedar14 => "SLUGRUNNER_14_IMAGE_ID",
            StackImages::Heroku18 => "SLUGRUNNER_18_IMAGE_ID",
        })
    }

    fn image(&self, variable: &str) -> Result<ArtifactId, String> {
        let id = self.get(variable).ok_or_else(|| format!("{variable} is not set"))?;
        id.parse().map_err(|_| format!("{variable}={id:?} is not an artifact's id"))
    }

    /// Memory of builds where the app states none; what cannot be read does not count.
    pub(crate) fn default_memory(&self) -> Option<Bytes> {
        self.get("SLUGBUILDER_DEFAULT_MEMORY_LIMIT")?.parse().ok()
    }

    /// Key and known hosts for fetching from other git servers.
    pub(crate) fn ssh(&self) -> (Option<&str>, Option<&str>) {
        (self.get("SSH_CLIENT_KEY"), self.get("SSH_CLIENT_HOSTS"))
    }

    /// Registry settings and certificates for builds, by the names the builder knows them by.
    pub(crate) fn build_env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables().filter(|(name, _)| name.starts_with(BUILD_ENV) || *name == CA_BUNDLE)
    }

    /// The job this process is part of.
    pub(crate) fn own_job(&self) -> Option<&str> {
        self.get("FLYNN_JOB_ID")
    }

    /// The release this process is of.
    pub(crate) fn own_release(&self) -> Option<ReleaseId> {
        self.get("FLYNN_RELEASE_ID")?.parse().ok()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Settings").field("variables", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_env(pairs)
    }

    #[test]
    fn only_known_variables_are_kept_and_none_shows() {
        let settings = settings(&[
            ("CONTROLLER_KEY", "secret-key"),
            ("AWS_SECRET", "x"),
            ("BUILD_ENV_PIP_INDEX_URL", "http://p"),
            ("BUILD_ENV_", "y"),
            ("SLUGBUILDER_DEFAULT_MEMORY_LIMIT", "2GB"),
        ])
        .unwrap();
        assert!(settings.variables().all(|(name, _)| name != "AWS_SECRET"));
        let passed: Vec<_> = settings.build_env().collect();
        assert_eq!(passed, [("BUILD_ENV_", "y"), ("BUILD_ENV_PIP_INDEX_URL", "http://p")]);
        assert_eq!(settings.default_memory(), Some(Bytes(2_147_483_648)));
        assert!(!format!("{settings:?}").contains("secret-key"));
    }

    #[test]
    fn without_a_key_there_is_nothing_to_do() {
        assert!(matches!(settings(&[("CONTROLLER_KEY", "")]), Err(SettingsError::NoKey)));
    }

    #[test]
    fn a_limit_that_is_no_size_does_not_count() {
        let odd = settings(&[("CONTROLLER_KEY", "k"), ("SLUGBUILDER_DEFAULT_MEMORY_LIMIT", "a")]);
        assert_eq!(odd.unwrap().default_memory(), None);
    }
}
