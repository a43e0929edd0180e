//! What the process was started with: variables, directory, own path. Read once in `main`, so that
//! commands never look at the process's environment and tests can make one up.

use std::path::{Path, PathBuf};

use crate::git::Git;
use crate::rc::RcError;

/// The surroundings of one invocation.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// HOME.
    pub home: Option<PathBuf>,
    /// FLYNNRC: another place for the config file.
    pub flynnrc: Option<PathBuf>,
    /// FLYNN_APP: the app when `-a` is not given.
    pub app: Option<String>,
    /// FLYNN_CLUSTER: the cluster when `-c` is not given.
    pub cluster: Option<String>,
    /// TERM, handed to interactive jobs.
    pub term: Option<String>,
    /// Where the command was started.
    pub directory: PathBuf,
    /// This program, which git is told to ask for credentials.
    pub program: PathBuf,
}

impl Environment {
    /// The process's own surroundings.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self {
            home: text("HOME").map(PathBuf::from),
            flynnrc: text("FLYNNRC").map(PathBuf::from),
            app: text("FLYNN_APP"),
            cluster: text("FLYNN_CLUSTER"),
            term: text("TERM"),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("flynn")),
        }
    }

    /// The config file's path.
    pub(crate) fn rc_path(&self) -> Result<PathBuf, RcError> {
        let default = || self.home.as_deref().map(|home| home.join(".flynnrc"));
        self.flynnrc.clone().or_else(default).ok_or(RcError::NoPath)
    }

    /// Where the CA certificate of a cluster is kept for git.
    pub(crate) fn ca_path(&self, cluster: &str) -> Option<PathBuf> {
        // A cluster's name is free text; as a file name it must stay in its directory.
        let name = cluster.replace(['/', '\0'], "_");
        self.home
            .as_deref()
            .map(|home: &Path| home.join(".flynn/ca-certs").join(format!("{name}.pem")))
    }

    /// git, run where the command was started.
    pub(crate) fn git(&self) -> Git {
        Git::new(&self.directory, self.home.as_deref())
    }
}
