//! Which cluster and which app a command is about: options, environment, git remotes, config file,
//! in the order of spec/cli.md A2.

use crate::environment::Environment;
use crate::git::{Git, Remote};
use crate::rc::{Cluster, Rc, RcError};

/// Why no app could be named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not in a repository, and no option.
    #[error("no app found, run from a repo with a flynn remote or specify one with -a")]
    NoApp,
    /// A repository without a remote of a known cluster.
    #[error("no apps in git remotes")]
    NoAppsInRemotes,
    /// `flynn.remote` names no remote.
    #[error("could not find git remote {remote} in {directory}")]
    NoSuchRemote {
        /// The configured name.
        remote: String,
        /// Where git was asked.
        directory: String,
    },
    /// `flynn.remote` names a remote of another host.
    #[error("could not find app name in {0} git remote")]
    ForeignRemote(String),
    /// Several remotes name apps.
    #[error(
        "error: Multiple apps listed in git remotes, please specify one with the global -a option to disambiguate.\n\n\
         Available Flynn remotes:\n{}", .0.join("\n")
    )]
    ManyApps(Vec<String>),
}

/// What was asked for on the command line and in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `-a`, else FLYNN_APP.
    pub(crate) app: Option<String>,
    /// `-c`, else FLYNN_CLUSTER.
    pub(crate) cluster: Option<String>,
}

/// The cluster, and the app or why there is none: many commands need no app.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cluster: Cluster,
    pub(crate) app: Result<String, TargetError>,
}

impl Target {
    /// Finds both.
    pub(crate) fn find(
        wanted: &Wanted,
        rc: &Rc,
        environment: &Environment,
    ) -> Result<Self, RcError> {
        let git = environment.git();
        if let Some(app) = &wanted.app {
            return named(app, wanted, rc, &git);
        }
        match from_remotes(wanted, rc, environment, &git) {
            Ok((cluster, app)) => Ok(Self { cluster: cluster.clone(), app: Ok(app) }),
            Err(error) => {
                let cluster = rc.choose(wanted.cluster.as_deref())?.clone();
                Ok(Self { cluster, app: Err(error) })
            }
        }
    }
}

/// `-a X`: X may be the name of a git remote, which then decides about app and cluster.
fn named(app: &str, wanted: &Wanted, rc: &Rc, git: &Git) -> Result<Target, RcError> {
    if let Some((cluster, app)) = git.remote_url(app).and_then(|url| app_of_url(&url, wanted, rc)) {
        return Ok(Target { cluster: cluster.clone(), app: Ok(app) });
    }
    let cluster = rc.choose(wanted.cluster.as_deref())?.clone();
    Ok(Target { cluster, app: Ok(app.to_owned()) })
}

fn from_remotes<'rc>(
    wanted: &Wanted,
    rc: &'rc Rc,
    environment: &Environment,
    git: &Git,
) -> Result<(&'rc Cluster, String), TargetError> {
    if !git.in_repository() {
        return Err(TargetError::NoApp);
    }
    let remotes = git.push_remotes().map_err(|_| TargetError::NoApp)?;
    if let Some(chosen) = git.config_value("flynn.remote") {
        return configured(chosen, &remotes, wanted, rc, environment);
    }
    let mut found: Vec<(&Remote, (&Cluster, String))> = remotes
        .iter()
        .filter_map(|remote| app_of_url(&remote.url, wanted, rc).map(|app| (remote, app)))
        .collect();
    match found.len() {
        0 => Err(TargetError::NoAppsInRemotes),
        1 => Ok(found.remove(0).1),
        _ => Err(TargetError::ManyApps(
            found.iter().map(|(remote, _)| remote.name.clone()).collect(),
        )),
    }
}

/// `git config flynn.remote` picks one of several.
fn configured<'rc>(
    chosen: String,
    remotes: &[Remote],
    wanted: &Wanted,
    rc: &'rc Rc,
    environment: &Environment,
) -> Result<(&'rc Cluster, String), TargetError> {
    let Some(remote) = remotes.iter().find(|remote| remote.name == chosen) else {
        let directory = environment.directory.display().to_string();
        return Err(TargetError::NoSuchRemote { remote: chosen, directory });
    };
    app_of_url(&remote.url, wanted, rc).ok_or(TargetError::ForeignRemote(chosen))
}

/// The cluster and app a remote's URL belongs to; with `-c` only that cluster counts.
fn app_of_url<'rc>(url: &str, wanted: &Wanted, rc: &'rc Rc) -> Option<(&'rc Cluster, String)> {
    rc.clusters
        .iter()
        .filter(|cluster| wanted.cluster.as_ref().is_none_or(|name| *name == cluster.name))
        .find_map(|cluster| cluster.app_of_remote(url).map(|app| (cluster, app.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Repo {
        dir: tempfile::TempDir,
        rc: Rc,
    }

    impl Repo {
        fn new() -> Self {
            let cluster = |name: &str| Cluster {
                name: name.to_owned(),
                git_url: format!("https://git.{name}.test"),
                ..Cluster::default()
            };
            let rc = Rc { default: "b".to_owned(), clusters: vec![cluster("a"), cluster("b")] };
            Self { dir: tempfile::tempdir().unwrap(), rc }
        }

        fn git(&self, args: &[&str]) {
            let status =
                std::process::Command::new("git").args(args).current_dir(self.dir.path()).status();
            assert!(status.unwrap().success(), "git {args:?}");
        }

        /// `cluster/app`, or the error's text.
        fn find(&self, app: Option<&str>, cluster: Option<&str>) -> String {
            let environment =
                Environment { directory: self.dir.path().to_owned(), ..Environment::default() };
            let wanted =
                Wanted { app: app.map(str::to_owned), cluster: cluster.map(str::to_owned) };
            match Target::find(&wanted, &self.rc, &environment) {
                Ok(Target { cluster, app: Ok(app) }) => format!("{}/{app}", cluster.name),
                Ok(Target { cluster, app: Err(error) }) => format!("{}: {error}", cluster.name),
                Err(error) => error.to_string(),
            }
        }
    }

    #[test]
    fn options_then_remotes_then_the_config_file() {
        let repo = Repo::new();
        let no_app = "no app found, run from a repo with a flynn remote or specify one with -a";
        assert_eq!(repo.find(None, None), format!("b: {no_app}"));
        assert_eq!(repo.find(Some("demo"), None), "b/demo");
        assert_eq!(repo.find(Some("demo"), Some("a")), "a/demo");
        assert_eq!(repo.find(Some("demo"), Some("zz")), "unknown cluster \"zz\"");
        repo.git(&["init", "-q"]);
        assert_eq!(repo.find(None, None), "b: no apps in git remotes");
        repo.git(&["remote", "add", "origin", "https://elsewhere.test/x.git"]);
        repo.git(&["remote", "add", "flynn", "https://git.a.test/shop.git"]);
        assert_eq!(repo.find(None, None), "a/shop");
        assert_eq!(repo.find(None, Some("b")), "b: no apps in git remotes");
        assert_eq!(repo.find(Some("flynn"), None), "a/shop", "a remote's name names its app");
    }

    #[test]
    fn of_several_remotes_one_must_be_chosen() {
        let repo = Repo::new();
        repo.git(&["init", "-q"]);
        repo.git(&["remote", "add", "flynn", "https://git.a.test/shop.git"]);
        repo.git(&["remote", "add", "staging", "https://git.b.test/shop2.git"]);
        assert_eq!(
            repo.find(None, None),
            "b: error: Multiple apps listed in git remotes, please specify one with the global -a option to \
             disambiguate.\n\nAvailable Flynn remotes:\nflynn\nstaging"
        );
        repo.git(&["config", "flynn.remote", "staging"]);
        assert_eq!(repo.find(None, None), "b/shop2");
        repo.git(&["config", "flynn.remote", "gone"]);
        assert!(repo.find(None, None).contains("could not find git remote gone in "));
    }
}
