//! The stack an app is built for. There is one; the names of the wire are those of the original's.

use controller_api::Release;
use kit_ids::ArtifactId;

use super::ReceiveError;
use crate::settings::{Settings, StackImages};

/// A stack by the name that stands in releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    /// Gone: only a platform that has its images can build for it.
    Cedar14,
    /// The present one.
    Heroku18,
}

const DEPRECATED: [&str; 2] = [
    "WARNING: The cedar-14 stack is deprecated and does not receive security updates.",
    "WARNING: Unset FLYNN_STACK to use the default stack.",
];

impl Stack {
    /// What the current release asks for.
    pub(super) fn of(release: Option<&Release>) -> Result<Self, ReceiveError> {
        let wanted = release.and_then(|release| release.env.get("FLYNN_STACK"));
        match wanted.map(String::as_str) {
            None | Some("" | "heroku-18" | "heroku-24") => Ok(Self::Heroku18),
            Some("cedar-14") => Ok(Self::Cedar14),
            Some(other) => Err(ReceiveError::UnknownStack(other.to_owned())),
        }
    }

    pub(super) fn warnings(self) -> &'static [&'static str] {
        match self {
            Self::Cedar14 => &DEPRECATED,
            Self::Heroku18 => &[],
        }
    }

    /// The value of the releases' `slugrunner.stack`.
    pub(super) fn meta(self) -> &'static str {
        match self {
            Self::Cedar14 => "cedar-14",
            Self::Heroku18 => "heroku-18",
        }
    }

    /// STACK and CF_STACK of builds: buildpacks of today refuse names of the past.
    pub(super) fn build_names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cedar14 => ("cedar-14", "cflinuxfs2"),
            Self::Heroku18 => ("heroku-24", "cflinuxfs3"),
        }
    }

    /// The two images, by what errors call them.
    pub(super) fn images(
        self,
        settings: &Settings,
    ) -> [(&'static str, Result<ArtifactId, String>); 2] {
        [("slugbuilder", self.builder(settings)), ("slugrunner", self.runner(settings))]
    }

    pub(super) fn builder(self, settings: &Settings) -> Result<ArtifactId, String> {
        settings.builder_image(self.image_names())
    }

    pub(super) fn runner(self, settings: &Settings) -> Result<ArtifactId, String> {
        settings.runner_image(self.image_names())
    }

    fn image_names(self) -> StackImages {
        match self {
            Self::Cedar14 => StackImages::Cedar14,
            Self::Heroku18 => StackImages::Heroku18,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_release_names_the_stack() {
        for (wanted, stack) in [
            (None, Some(Stack::Heroku18)),
            (Some("heroku-18"), Some(Stack::Heroku18)),
            (Some("heroku-24"), Some(Stack::Heroku18)),
            (Some("cedar-14"), Some(Stack::Cedar14)),
            (Some("x"), None),
        ] {
            let env = wanted.map(|name: &str| ("FLYNN_STACK".to_owned(), name.to_owned()));
            let release = Release { env: env.into_iter().collect(), ..Release::default() };
            assert_eq!(Stack::of(Some(&release)).ok(), stack, "{wanted:?}");
        }
        let release = Release {
            env: [("FLYNN_STACK".to_owned(), "x".to_owned())].into(),
            ..Release::default()
        };
        let error = Stack::of(Some(&release)).unwrap_err();
        assert_eq!(error.to_string(), "Unknown FLYNN_STACK: \"x\"");
        assert_eq!(Stack::of(None).unwrap().meta(), "heroku-18");
    }
}
