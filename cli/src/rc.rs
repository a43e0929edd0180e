//! `~/.flynnrc`: the clusters a person can reach (spec/cli.md A2). Knows nothing of HTTP or git.

mod file;

use std::path::PathBuf;

pub(crate) use file::replace as replace_file;

/// Why the file could not be used or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RcError {
    /// There is nowhere to look.
    #[error("neither FLYNNRC nor HOME is set, so there is no config file to use")]
    NoPath,
    /// It exists but cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It could not be replaced.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// No cluster at all.
    #[error("no clusters configured")]
    Empty,
    /// No block of that name.
    #[error("unknown cluster {0:?}")]
    Unknown(String),
    /// `cluster add` of a name that is there.
    #[error("Cluster {0:?} already exists in ~/.flynnrc")]
    NameTaken(String),
    /// `cluster add` of a URL that is there.
    #[error("A cluster with the URL {0:?} already exists in ~/.flynnrc")]
    UrlTaken(String),
    /// `cluster add` that would have to replace two blocks.
    #[error("The cluster name and/or URLs conflict with multiple existing clusters.")]
    ManyConflicts,
    /// `cluster default` of a name that is not there.
    #[error("Cluster {0:?} does not exist and cannot be set as default.")]
    NoSuchDefault(String),
}

/// One block of the file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// What `-c` names.
    pub(crate) name: String,
    /// The controller's key.
    pub(crate) key: String,
    /// Base64 of the SHA-256 of the server's certificate; empty means the system's roots decide.
    pub(crate) tls_pin: String,
    /// Where the controller is.
    pub(crate) controller_url: String,
    /// Prefix of the git remotes; empty when git was not set up.
    pub(crate) git_url: String,
    /// Where images are pushed to.
    pub(crate) image_url: String,
    /// Where images were pushed to by older versions.
    pub(crate) docker_push_url: String,
    /// The OAuth issuer of clusters with accounts; kept, not used.
    pub(crate) oauth_url: String,
}

impl std::fmt::Debug for Cluster {
    /// The key stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("controller_url", &self.controller_url)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The host of the git remotes.
    pub(crate) fn git_host(&self) -> Option<&str> {
        let rest = self.git_url.split_once("://")?.1;
        rest.split('/').next().filter(|host| !host.is_empty())
    }

    /// The app a git remote's URL names, when it is one of this cluster.
    pub(crate) fn app_of_remote<'a>(&self, url: &'a str) -> Option<&'a str> {
        if self.git_url.is_empty() {
            return None;
        }
        let name = url.strip_prefix(self.git_url.as_str())?.strip_prefix('/')?;
        name.strip_suffix(".git").filter(|name| !name.is_empty())
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rc {
    /// The cluster used when none is named; may be empty.
    pub(crate) default: String,
    /// In the order of the file.
    pub(crate) clusters: Vec<Cluster>,
}

impl Rc {
    /// The block of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// The cluster that `-c`, else the default, else the order of the file names.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<&Cluster, RcError> {
        if self.clusters.is_empty() {
            return Err(RcError::Empty);
        }
        let name = name.or(Some(self.default.as_str()).filter(|name| !name.is_empty()));
        match name {
            Some(name) => self.find(name).ok_or_else(|| RcError::Unknown(name.to_owned())),
            None => self.clusters.first().ok_or(RcError::Empty),
        }
    }

    /// Appends a cluster. With `force` it may take the place of the one block it conflicts with.
    pub(crate) fn add(&mut self, new: Cluster, force: bool) -> Result<(), RcError> {
        let conflicts: Vec<(usize, RcError)> = self
            .clusters
            .iter()
            .enumerate()
            .filter_map(|(at, old)| conflict(old, &new).map(|why| (at, why)))
            .collect();
        if conflicts.len() > 1 {
            return Err(RcError::ManyConflicts);
        }
        match conflicts.into_iter().next() {
            Some((_, why)) if !force => return Err(why),
            Some((at, _)) => {
                self.clusters.remove(at);
            }
            None => {}
        }
        self.clusters.push(new);
        Ok(())
    }

    /// Takes a cluster away, if it is there. The first remaining one inherits being the default.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Cluster> {
        let at = self.clusters.iter().position(|cluster| cluster.name == name)?;
        let removed = self.clusters.remove(at);
        if self.default == name {
            self.default =
                self.clusters.first().map(|first| first.name.clone()).unwrap_or_default();
        }
        Some(removed)
    }

    /// Names the cluster that is used when none is named.
    pub(crate) fn set_default(&mut self, name: &str) -> Result<(), RcError> {
        if self.find(name).is_none() {
            return Err(RcError::NoSuchDefault(name.to_owned()));
        }
        name.clone_into(&mut self.default);
        Ok(())
    }
}

/// Why both cannot stand in one file, in the order in which the questions are asked.
fn conflict(old: &Cluster, new: &Cluster) -> Option<RcError> {
    let same = |old: &str, new: &str| !new.is_empty() && old == new;
    if old.name == new.name {
        Some(RcError::NameTaken(new.name.clone()))
    } else if same(&old.git_url, &new.git_url) {
        Some(RcError::UrlTaken(new.git_url.clone()))
    } else if same(&old.controller_url, &new.controller_url) {
        Some(RcError::UrlTaken(new.controller_url.clone()))
    } else if same(&old.docker_push_url, &new.docker_push_url) {
        Some(RcError::UrlTaken(new.docker_push_url.clone()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, domain: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            controller_url: format!("https://controller.{domain}"),
            git_url: format!("https://git.{domain}"),
            ..Cluster::default()
        }
    }

    #[test]
    fn the_default_then_the_first_is_chosen() {
        let mut rc = Rc::default();
        assert_eq!(rc.choose(None).unwrap_err().to_string(), "no clusters configured");
        rc.clusters = vec![cluster("a", "a.test"), cluster("b", "b.test")];
        assert_eq!(rc.choose(None).unwrap().name, "a");
        rc.default = "b".to_owned();
        assert_eq!(rc.choose(None).unwrap().name, "b");
        assert_eq!(rc.choose(Some("a")).unwrap().name, "a");
        assert_eq!(rc.choose(Some("zz")).unwrap_err().to_string(), "unknown cluster \"zz\"");
    }

    #[test]
    fn force_replaces_one_block_but_never_two() {
        let mut rc = Rc {
            default: String::new(),
            clusters: vec![cluster("a", "a.test"), cluster("b", "b.test")],
        };
        let again = rc.add(cluster("a", "c.test"), false).unwrap_err();
        assert_eq!(again.to_string(), "Cluster \"a\" already exists in ~/.flynnrc");
        let url = rc.add(cluster("c", "a.test"), false).unwrap_err();
        assert_eq!(
            url.to_string(),
            "A cluster with the URL \"https://git.a.test\" already exists in ~/.flynnrc"
        );
        assert!(matches!(rc.add(cluster("a", "b.test"), true), Err(RcError::ManyConflicts)));
        rc.add(cluster("a", "c.test"), true).unwrap();
        let names: Vec<_> = rc.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn only_remotes_of_the_cluster_name_apps() {
        let one = cluster("a", "a.test");
        assert_eq!(one.app_of_remote("https://git.a.test/demo.git"), Some("demo"));
        assert_eq!(one.app_of_remote("https://git.b.test/demo.git"), None);
        assert_eq!(one.app_of_remote("https://git.a.test/demo"), None);
        assert_eq!(
            Cluster::default().app_of_remote("/srv/demo.git"),
            None,
            "an absolute path is no app"
        );
        assert_eq!(one.git_host(), Some("git.a.test"));
    }
}
