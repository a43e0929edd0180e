//! The environment of a build job, read into settings. All defaults stand here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kit_ids::ArtifactId;

/// How long a build may take; its token is good for an hour.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Stack names as buildpacks know them.
const STACK: &str = "heroku-24";
const CF_STACK: &str = "cflinuxfs3";
const BLOBSTORE: &str = "http://blobstore.discoverd";
const CONTROLLER: &str = "http://controller.discoverd";
const SYSTEM_CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables of the job that are meant for what runs in the build, beside `BUILD_ENV_*`: how registries
/// and proxies are reached.
const PASSED: [&str; 17] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "GOPROXY",
    "GOSUMDB",
    "GOFLAGS",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "MAVEN_OPTS",
    "BUNDLE_MIRROR__ALL",
];

/// What one build needs to know.
#[derive(Clone)]
pub struct Config {
    /// The artifact to make.
    pub slug: ArtifactId,
    /// The build's token, or the cluster's key. No buildpack sees it.
    pub key: String,
    /// Where the build cache is; absent: no cache.
    pub cache_url: Option<String>,
    /// The blob store.
    pub blobstore_url: String,
    /// The controller.
    pub controller_url: String,
    /// The commit that is built.
    pub source_version: String,
    /// Stack names for buildpacks.
    pub stack: String,
    /// The same as Cloud Foundry's buildpacks know it.
    pub cf_stack: String,
    /// The buildpack to use in place of a detected one: a git URL, perhaps with `#BRANCH`.
    pub buildpack_url: Option<String>,
    /// A private key for git over ssh, and the hosts known to it.
    pub ssh: Option<Ssh>,
    /// Certificates (PEM) to trust beside the system's.
    pub extra_ca: Option<String>,
    /// What operators set for all builds, such as the address of a registry.
    pub build_env: BTreeMap<String, String>,
    /// How long the build may take.
    pub timeout: Duration,
    /// Where things are.
    pub places: Places,
    /// Whom buildpacks run as; None: as whoever runs the builder.
    pub user: Option<User>,
}

/// Where a builder works.
#[derive(Clone, Debug)]
pub struct Places {
    /// Everything that is written is below this folder.
    pub tmp: PathBuf,
    /// Where the app will run, and is built: a link to a folder in `tmp`.
    pub app: PathBuf,
    /// Where language runtimes will be, and are installed: a link to a folder in `tmp`.
    pub runtimes: PathBuf,
    /// Our own buildpacks.
    pub buildpacks: PathBuf,
    /// The system's accounts, to which the user of builds is added; absent: left alone.
    pub accounts: Option<PathBuf>,
    /// The system's CA bundle.
    pub ca_bundle: PathBuf,
}

/// An account by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl User {
    /// Whom slugs belong to and run as.
    pub const FLYNN: Self = Self { uid: 5000, gid: 5000 };
}

/// What git needs for ssh. A secret.
#[derive(Clone)]
pub struct Ssh {
    /// The private key.
    pub key: String,
    /// Lines of a known_hosts file.
    pub hosts: String,
}

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable without which there is no build.
    #[error("{0} is not set: is this a build job?")]
    Missing(&'static str),
    /// No id.
    #[error("SLUG_IMAGE_ID is no id")]
    Slug(#[source] kit_ids::ParseIdError),
    /// No time.
    #[error("BUILD_TIMEOUT={0:?} is not a number of seconds")]
    Timeout(String),
}

impl Config {
    /// From the variables of a build job: SLUG_IMAGE_ID and CONTROLLER_KEY are needed.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut all: BTreeMap<String, String> = variables.into_iter().collect();
        all.retain(|_, value| !value.is_empty());
        let get = |name: &str| all.get(name).cloned();
        let need = |name: &'static str| get(name).ok_or(ConfigError::Missing(name));
        let timeout = match get("BUILD_TIMEOUT") {
            None => TIMEOUT,
            Some(text) => match text.parse() {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                Ok(_) | Err(_) => return Err(ConfigError::Timeout(text)),
            },
        };
        Ok(Self {
            slug: need("SLUG_IMAGE_ID")?.parse().map_err(ConfigError::Slug)?,
            key: need("CONTROLLER_KEY")?,
            cache_url: get("BUILD_CACHE_URL"),
            blobstore_url: get("BLOBSTORE_URL").unwrap_or_else(|| BLOBSTORE.to_owned()),
            controller_url: get("CONTROLLER_URL").unwrap_or_else(|| CONTROLLER.to_owned()),
            source_version: get("SOURCE_VERSION").unwrap_or_default(),
            stack: get("STACK").unwrap_or_else(|| STACK.to_owned()),
            cf_stack: get("CF_STACK").unwrap_or_else(|| CF_STACK.to_owned()),
            buildpack_url: get("BUILDPACK_URL"),
            ssh: get("SSH_CLIENT_KEY")
                .map(|key| Ssh { key, hosts: get("SSH_CLIENT_HOSTS").unwrap_or_default() }),
            extra_ca: get("BUILD_CA_BUNDLE"),
            build_env: build_env(&all),
            timeout,
            places: Places::of_a_job(get("TMPDIR")),
            user: Some(User::FLYNN),
        })
    }
}

/// Known names as they are, and whatever stands behind `BUILD_ENV_`, which wins.
fn build_env(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let known = all.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
    let known = known.map(|(name, value)| (name.clone(), value.clone()));
    let prefixed = all.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("BUILD_ENV_").filter(|name| !name.is_empty())?;
        Some((name.to_owned(), value.clone()))
    });
    known.chain(prefixed).collect()
}

impl Places {
    fn of_a_job(tmp: Option<String>) -> Self {
        Self {
            tmp: PathBuf::from(tmp.unwrap_or_else(|| "/tmp".to_owned())),
            app: PathBuf::from("/app"),
            runtimes: PathBuf::from("/runtimes"),
            buildpacks: PathBuf::from("/builder/buildpacks"),
            accounts: Some(PathBuf::from("/etc")),
            ca_bundle: PathBuf::from(SYSTEM_CA_BUNDLE),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("slug", &self.slug).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLUG: &str = "0f0e0d0c-2222-4222-8333-abcdefabcdef";

    fn config(extra: &[(&str, &str)]) -> Result<Config, String> {
        let base = [("SLUG_IMAGE_ID", SLUG), ("CONTROLLER_KEY", "secret")];
        let all = base.iter().chain(extra).map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        Config::from_env(all).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_job() {
        let config = config(&[("BUILDPACK_URL", "")]).unwrap();
        assert_eq!(config.stack, "heroku-24");
        assert_eq!(config.timeout, Duration::from_secs(1800));
        assert_eq!(config.buildpack_url, None);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn only_what_operators_set_for_builds_reaches_buildpacks() {
        let config = config(&[
            ("BUILD_ENV_npm_config_registry", "https://mirror"),
            ("npm_config_registry", "plain"),
            ("HTTPS_PROXY", "http://proxy"),
            ("BUILD_ENV_", "x"),
            ("FLYNN_APP_ID", "app"),
            ("SSH_CLIENT_KEY", "ssh"),
        ])
        .unwrap();
        let passed: Vec<_> =
            config.build_env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            passed,
            [("HTTPS_PROXY", "http://proxy"), ("npm_config_registry", "https://mirror")]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Config::from_env([]).unwrap_err();
        assert_eq!(error.to_string(), "SLUG_IMAGE_ID is not set: is this a build job?");
        for bad in ["0", "-1", "soon"] {
            assert!(config(&[("BUILD_TIMEOUT", bad)]).is_err());
        }
    }
}
