//! The `git` program: remotes and configuration. Every call is an argument vector; nothing here knows
//! what an app is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Why git could not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// There is no such program.
    #[error("Executable 'git' was not found. Use --no-git to skip git configuration")]
    NotFound,
    /// It could not be started.
    #[error("could not run git")]
    Start(#[source] std::io::Error),
    /// It answered with an error.
    #[error("git {action} failed: {message}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What git said.
        message: String,
    },
}

/// One push remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Its name.
    pub(crate) name: String,
    /// Where it pushes to.
    pub(crate) url: String,
}

/// git in one directory.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    directory: PathBuf,
    home: Option<PathBuf>,
}

impl Git {
    pub(crate) fn new(directory: &Path, home: Option<&Path>) -> Self {
        Self { directory: directory.to_owned(), home: home.map(Path::to_owned) }
    }

    /// Whether the directory belongs to a repository. No git, no repository.
    pub(crate) fn in_repository(&self) -> bool {
        self.run(&["rev-parse", "--git-dir"]).is_ok_and(|output| output.status.success())
    }

    /// An error when there is no git.
    pub(crate) fn check_installed(&self) -> Result<(), GitError> {
        self.expect("--version", &["--version"]).map(drop)
    }

    /// All remotes with a push URL.
    pub(crate) fn push_remotes(&self) -> Result<Vec<Remote>, GitError> {
        let output = self.expect("remote", &["remote", "-v"])?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(push_remote).collect())
    }

    /// The URL of the remote of this name.
    pub(crate) fn remote_url(&self, remote: &str) -> Option<String> {
        self.config_value(&format!("remote.{remote}.url"))
    }

    /// A value of the repository's or the person's configuration.
    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        let output = self.run(&["config", "--get", key]).ok()?;
        let value = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        (output.status.success() && !value.is_empty()).then_some(value)
    }

    /// Makes the remote, in place of one of the same name.
    pub(crate) fn set_remote(&self, remote: &str, url: &str) -> Result<(), GitError> {
        if self.remote_url(remote).is_some() {
            self.remove_remote(remote)?;
        }
        self.expect("remote add", &["remote", "add", "--", remote, url]).map(drop)
    }

    /// Takes the remote away.
    pub(crate) fn remove_remote(&self, remote: &str) -> Result<(), GitError> {
        self.expect("remote remove", &["remote", "remove", "--", remote]).map(drop)
    }

    /// Sets a value of the person's configuration.
    pub(crate) fn set_global(&self, key: &str, value: &OsStr) -> Result<(), GitError> {
        let fixed = ["config", "--global", "--replace-all", key].map(OsStr::new);
        let output = self.start(&[&fixed[..], &[value]].concat())?;
        succeeded("config", output).map(drop)
    }

    /// Drops a section of the person's configuration; that it is not there is fine.
    pub(crate) fn drop_global_section(&self, section: &str) {
        let _ = self.run(&["config", "--global", "--remove-section", section]);
    }

    fn expect(&self, action: &'static str, args: &[&str]) -> Result<Output, GitError> {
        succeeded(action, self.run(args)?)
    }

    fn run(&self, args: &[&str]) -> Result<Output, GitError> {
        self.start(&args.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    fn start(&self, args: &[&OsStr]) -> Result<Output, GitError> {
        let mut command = Command::new("git");
        command.args(args).current_dir(&self.directory).stdin(Stdio::null());
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
        command.output().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                GitError::NotFound
            } else {
                GitError::Start(error)
            }
        })
    }
}

fn succeeded(action: &'static str, output: Output) -> Result<Output, GitError> {
    if output.status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(GitError::Failed { action, message })
}

/// A line of `git remote -v`: `name<TAB>url (push)`.
fn push_remote(line: &str) -> Option<Remote> {
    let (name, rest) = line.split_once('\t')?;
    let url = rest.strip_suffix(" (push)")?;
    Some(Remote { name: name.to_owned(), url: url.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_come_and_go_and_odd_names_work() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(dir.path(), Some(dir.path()));
        assert!(!git.in_repository());
        git.run(&["init", "-q"]).unwrap();
        assert!(git.in_repository());
        git.set_remote("flynn", "https://git.a.test/demo.git").unwrap();
        git.set_remote("flynn", "https://git.a.test/other.git").unwrap();
        git.set_remote("\"\"", "https://git.a.test/odd.git").unwrap();
        let names: Vec<_> =
            git.push_remotes().unwrap().into_iter().map(|remote| remote.name).collect();
        assert_eq!(names, ["\"\"", "flynn"]);
        assert_eq!(git.remote_url("flynn").unwrap(), "https://git.a.test/other.git");
        git.remove_remote("flynn").unwrap();
        assert_eq!(git.remote_url("flynn"), None);
        assert!(matches!(git.remove_remote("flynn"), Err(GitError::Failed { .. })));
    }

    #[test]
    fn the_global_configuration_is_that_of_home() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(dir.path(), Some(dir.path()));
        git.set_global("http.https://git.a.test.sslCAInfo", OsStr::new("/x.pem")).unwrap();
        let written = std::fs::read_to_string(dir.path().join(".gitconfig")).unwrap();
        assert!(written.contains("[http \"https://git.a.test\"]"), "{written}");
        git.drop_global_section("http.https://git.a.test");
        git.drop_global_section("http.https://git.a.test");
        assert_eq!(git.config_value("http.https://git.a.test.sslCAInfo"), None);
    }
}
