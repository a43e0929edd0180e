//! Fetching a buildpack with git, as the user of builds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::BuildError;
use crate::layout::Layout;
use crate::process::{Ended, Program};
use crate::surroundings::Variables;

/// How much of git's words is shown when it fails.
const SHOWN: usize = 2000;

/// Where a buildpack is: a git URL and perhaps what to check out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    url: String,
    treeish: Option<String>,
}

impl Origin {
    /// Reads `URL[#TREEISH]`. What git could take for an option or for a program to run is refused.
    pub(crate) fn parse(text: &str) -> Result<Self, BuildError> {
        let text = text.trim();
        let (url, treeish) = match text.rsplit_once('#') {
            Some((url, treeish)) => (url, Some(treeish).filter(|treeish| !treeish.is_empty())),
            None => (text, None),
        };
        let is_plain = |text: &str| !text.starts_with('-') && !text.contains(char::is_control);
        if !is_plain(url) || !treeish.is_none_or(is_plain) || !is_location(url) {
            return Err(BuildError::BuildpackUrl { url: shown(url) });
        }
        Ok(Self { url: url.to_owned(), treeish: treeish.map(str::to_owned) })
    }

    /// The last part of the URL, which is what people call it.
    pub(crate) fn name(&self) -> &str {
        let last = self.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(&self.url);
        last.strip_suffix(".git").unwrap_or(last)
    }

    /// The URL without what is secret in it.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Clones it into a new folder.
    pub(crate) async fn fetch(
        &self,
        layout: &Layout,
        env: &Variables,
    ) -> Result<PathBuf, BuildError> {
        let folder = free_folder(&layout.buildpacks);
        let git = |arguments: &[&str], at: &Path| {
            let argv = std::iter::once("git").chain(arguments.iter().copied());
            Program::new(argv, at, env.clone()).user(layout.user)
        };
        let target = folder.to_string_lossy();
        match &self.treeish {
            None => {
                let clone = ["clone", "-q", "--recursive", "--depth=1", "--", &self.url, &target];
                self.run(&git(&clone, &layout.buildpacks)).await?;
            }
            Some(treeish) => {
                let clone = ["clone", "-q", "--", &self.url, &target];
                self.run(&git(&clone, &layout.buildpacks)).await?;
                self.run(&git(&["checkout", "-q", treeish, "--"], &folder)).await?;
                let modules = ["submodule", "-q", "update", "--init", "--recursive"];
                self.run(&git(&modules, &folder)).await?;
            }
        }
        make_executable(&folder.join("bin"));
        Ok(folder)
    }

    async fn run(&self, git: &Program) -> Result<(), BuildError> {
        let (ended, text) = git.silent().await.map_err(BuildError::io("cannot run git"))?;
        if ended.success() { Ok(()) } else { Err(self.failure(ended, &text)) }
    }

    fn failure(&self, ended: Ended, text: &[u8]) -> BuildError {
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]);
        // git repeats the URL.
        let text = text.replace(&self.url, &self.shown());
        BuildError::Fetch { url: self.shown(), ended, output: text.trim_end().to_owned() }
    }
}

/// `scheme://…` of a known scheme, or `user@host:path` as ssh has it.
fn is_location(url: &str) -> bool {
    if let Some((scheme, rest)) = url.split_once("://") {
        let is_known = matches!(scheme, "https" | "http" | "ssh" | "git" | "git+ssh" | "file");
        return is_known && !rest.is_empty() && !rest.starts_with('-');
    }
    url.split_once(':').is_some_and(|(host, path)| {
        host.contains('@') && !host.contains('/') && !path.is_empty() && !path.starts_with(':')
    })
}

/// The URL with name and password of its user hidden.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            format!("{scheme}://***@{host}{}", &rest[user.len() + 1 + host.len()..])
        }
        Some(_) | None => url.to_owned(),
    }
}

fn free_folder(parent: &Path) -> PathBuf {
    let mut number = 0;
    loop {
        let folder = parent.join(number.to_string());
        if !folder.exists() {
            return folder;
        }
        number += 1;
    }
}

/// Some buildpacks were committed without the bit. What cannot be changed fails later, by name.
fn make_executable(bin: &Path) {
    for entry in fs::read_dir(bin).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            drop(fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_what_git_should_fetch_and_nothing_else() {
        for (text, url, treeish, name) in [
            ("https://h/o/bp", "https://h/o/bp", None, "bp"),
            (" https://h/o/bp.git#v1 ", "https://h/o/bp.git", Some("v1"), "bp"),
            ("git@h:o/bp.git#a/b", "git@h:o/bp.git", Some("a/b"), "bp"),
            ("ssh://git@h:22/bp/", "ssh://git@h:22/bp/", None, "bp"),
            ("file:///tmp/x#", "file:///tmp/x", None, "x"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!((origin.url.as_str(), origin.treeish.as_deref()), (url, treeish), "{text}");
            assert_eq!(origin.name(), name);
        }
        for bad in [
            "",
            "-u",
            "--upload-pack=x",
            "/etc",
            "host:path",
            "ext::sh -c x",
            "u@h::x",
            "ssh://-oProxyCommand=x/y",
            "https://h/x#-f",
            "https://h/x\ny",
            "ftp://h/x",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_of_a_url_do_not_show() {
        for (url, want) in [
            ("https://me:secret@h:8/x/y", "https://***@h:8/x/y"),
            ("https://h/x@y", "https://h/x@y"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(shown(url), want);
        }
    }
}
