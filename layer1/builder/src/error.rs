//! Why a build ends without a slug, in words for the person who pushed.

use std::path::PathBuf;
use std::time::Duration;

use crate::archive::ArchiveError;
use crate::process::Ended;

/// Why there is no slug.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source is not usable.
    #[error("cannot unpack the source")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No buildpack takes the app. The text is the one scripts look for.
    #[error(
        "no buildpack recognizes this app: it needs a package.json, a static site or a Procfile, or set BUILDPACK_URL"
    )]
    NoBuildpack,
    /// A chosen buildpack does not take the app.
    #[error("{name} does not recognize this app: its bin/detect ended with {ended}")]
    NotDetected {
        /// The buildpack.
        name: String,
        /// How detect ended.
        ended: Ended,
    },
    /// Not the layout of a buildpack.
    #[error("{name} is no buildpack: it has no {script}")]
    NotABuildpack {
        /// The buildpack.
        name: String,
        /// What it lacks.
        script: &'static str,
    },
    /// A buildpack cannot be fetched.
    #[error("cannot fetch the buildpack {url}: git ended with {ended}\n{output}")]
    Fetch {
        /// Where from, without secrets.
        url: String,
        /// How git ended.
        ended: Ended,
        /// The end of what git said.
        output: String,
    },
    /// Not a URL we give to git.
    #[error(
        "{url:?} is no buildpack URL: use https://…, ssh://…, git://…, file://… or USER@HOST:PATH, with #BRANCH where needed"
    )]
    BuildpackUrl {
        /// The text.
        url: String,
    },
    /// A step failed by itself.
    #[error("{step} failed: it ended with {ended}")]
    Failed {
        /// Which.
        step: String,
        /// How.
        ended: Ended,
    },
    /// The kernel ended something.
    #[error("{step} ran out of memory{}: raise it with `flynn limit set slugbuilder memory=…`", of(.limit))]
    OutOfMemory {
        /// Which.
        step: String,
        /// How much it could have.
        limit: Option<u64>,
    },
    /// Took too long.
    #[error("the build was stopped after {} s, while it was busy with: {step}", .after.as_secs())]
    Timeout {
        /// What it was at.
        step: String,
        /// How long it had.
        after: Duration,
    },
    /// Release information that is none.
    #[error("bin/release of {name} printed something else than YAML")]
    Release {
        /// The buildpack.
        name: String,
        /// Why.
        source: slug::ReleaseError,
    },
    /// A runtime that a buildpack names but did not install.
    #[error(
        "{line:?} in the list of used runtimes names none that is installed: NAME VERSION does"
    )]
    Runtime {
        /// What it names.
        line: String,
    },
    /// A file of the app that leads elsewhere.
    #[error("{} leads out of the app", .0.display())]
    Outside(PathBuf),
    /// The slug cannot be stored.
    #[error("cannot store the slug")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cache cannot be stored.
    #[error("cannot store the build cache")]
    Cache(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This machine.
    #[error("{doing}")]
    Io {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The error with its causes, for the person who pushes.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// The exit status of a build that ends so: that of the step that failed, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { ended, .. } | Self::NotDetected { ended, .. } => ended.exit_code(),
            Self::Source(_)
            | Self::NoBuildpack
            | Self::NotABuildpack { .. }
            | Self::Fetch { .. }
            | Self::BuildpackUrl { .. }
            | Self::OutOfMemory { .. }
            | Self::Timeout { .. }
            | Self::Release { .. }
            | Self::Runtime { .. }
            | Self::Outside(_)
            | Self::Store(_)
            | Self::Cache(_)
            | Self::Io { .. } => 1,
        }
    }
}

impl From<ArchiveError> for BuildError {
    fn from(error: ArchiveError) -> Self {
        Self::Source(Box::new(error))
    }
}

fn of(limit: &Option<u64>) -> String {
    limit.map(|bytes| format!(" ({} MB)", bytes >> 20)).unwrap_or_default()
}
