//! The folders of a build, and the account that buildpacks run as.

use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::config::{Config, Places, Ssh, User};
use crate::error::BuildError;

/// The folder in a source tar that holds the app's environment, one file a variable.
pub(crate) const ENV_COOKIE: &str = ".ENV_DIR_bdca46b87df0537eaefe79bb632d37709ff1df18";
/// The largest Procfile, `.release` and the like that is read.
const MAX_TEXT: u64 = 1 << 20;

/// Where things of this build are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The app, by the path it will run at.
    pub app: PathBuf,
    /// What buildpacks keep between builds.
    pub cache: PathBuf,
    /// The app's environment, if there is any.
    pub env: PathBuf,
    /// The home of the user of builds.
    pub home: PathBuf,
    /// Language runtimes, by the path they will run at.
    pub runtimes: PathBuf,
    /// Fetched buildpacks.
    pub buildpacks: PathBuf,
    /// The builder's own files, closed to buildpacks.
    pub work: PathBuf,
    pub tmp: PathBuf,
    pub user: Option<User>,
}

impl Layout {
    /// Makes the folders.
    pub(crate) fn prepare(config: &Config) -> Result<Self, BuildError> {
        let Places { tmp, app, runtimes, .. } = &config.places;
        let layout = Self {
            app: app.clone(),
            cache: tmp.join("cache"),
            env: tmp.join("env"),
            home: tmp.join("home"),
            runtimes: runtimes.clone(),
            buildpacks: tmp.join("buildpacks"),
            work: tmp.join("work"),
            tmp: tmp.clone(),
            user: config.user,
        };
        layout.make(tmp).map_err(BuildError::io("cannot make the folders of the build"))?;
        if let Some(accounts) = &config.places.accounts {
            layout.add_account(accounts).map_err(BuildError::io("cannot add the build's user"))?;
        }
        Ok(layout)
    }

    fn make(&self, tmp: &Path) -> io::Result<()> {
        fs::create_dir_all(tmp)?;
        fs::set_permissions(tmp, Permissions::from_mode(0o1777))?;
        for (link, folder) in [(&self.app, "build"), (&self.runtimes, "runtimes")] {
            let folder = tmp.join(folder);
            fs::create_dir_all(&folder)?;
            self.give(&folder)?;
            // An image may have an empty folder there.
            drop(fs::remove_dir(link));
            if !link.is_symlink() {
                symlink(&folder, link)?;
            }
        }
        for folder in [&self.cache, &self.home, &self.buildpacks, &self.work] {
            fs::create_dir_all(folder)?;
            self.give(folder)?;
        }
        if self.user.is_some() {
            lchown(&self.work, Some(0), Some(0))?;
        }
        fs::set_permissions(&self.work, Permissions::from_mode(0o700))
    }

    /// Makes a file or folder the property of the user of builds.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some(user) => lchown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }

    /// [`give`](Self::give) for a folder with all that is in it.
    pub(crate) fn give_tree(&self, folder: &Path) -> io::Result<()> {
        if self.user.is_none() {
            return Ok(());
        }
        let mut waiting = vec![folder.to_owned()];
        while let Some(path) = waiting.pop() {
            self.give(&path)?;
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    waiting.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    fn add_account(&self, accounts: &Path) -> io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        let passwd = accounts.join("passwd");
        let text = with_account(&fs::read_to_string(&passwd)?, user, &self.home);
        fs::write(&passwd, text)?;
        let group = accounts.join("group");
        let text = with_group(&fs::read_to_string(&group)?, user);
        fs::write(&group, text)
    }

    /// Moves the app's environment out of the source; false when the source has none. What is not a
    /// plain file with the name of a variable goes.
    pub(crate) fn take_environment(&self) -> io::Result<bool> {
        let cookie = self.app.join(ENV_COOKIE);
        if !fs::symlink_metadata(&cookie).is_ok_and(|found| found.is_dir()) {
            return Ok(false);
        }
        fs::rename(&cookie, &self.env)?;
        for entry in fs::read_dir(&self.env)? {
            let entry = entry?;
            let is_variable = entry.file_name().to_str().is_some_and(is_variable);
            let is_file = entry.file_type()?.is_file();
            match (is_variable && is_file, entry.file_type()?.is_dir()) {
                (true, _) => {}
                (false, true) => fs::remove_dir_all(entry.path())?,
                (false, false) => fs::remove_file(entry.path())?,
            }
        }
        Ok(true)
    }

    /// A variable of the app.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.env.join(name)).ok()
    }

    /// Puts the ssh key where git's ssh looks for it.
    pub(crate) fn write_ssh(&self, ssh: &Ssh) -> io::Result<()> {
        let folder = self.home.join(".ssh");
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        self.give(&folder)?;
        for (name, text) in [("id_rsa", &ssh.key), ("known_hosts", &ssh.hosts)] {
            let file = folder.join(name);
            fs::write(&file, "")?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            let end = if text.ends_with('\n') { "" } else { "\n" };
            fs::write(&file, format!("{text}{end}"))?;
            self.give(&file)?;
        }
        Ok(())
    }

    /// A small text of the app; None when it is not there. One that leads out of the app is refused:
    /// the builder may read more than the app may.
    pub(crate) fn app_text(&self, name: &str) -> Result<Option<String>, BuildError> {
        let path = self.app.join(name);
        let reading = || format!("cannot read {name}");
        let (Ok(real), Ok(root)) = (path.canonicalize(), self.app.canonicalize()) else {
            return Ok(None);
        };
        if !real.starts_with(&root) {
            return Err(BuildError::Outside(PathBuf::from(name)));
        }
        if !real.is_file() {
            return Ok(None);
        }
        let file = fs::File::open(&real).map_err(BuildError::io(reading()))?;
        let mut bytes = Vec::new();
        file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(BuildError::io(reading()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
    }
}

/// Whether a text can name an environment variable.
fn is_variable(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The text of a passwd file with the user of builds in it.
pub(crate) fn with_account(passwd: &str, user: User, home: &Path) -> String {
    let User { uid, gid } = user;
    let line = format!("flynn:x:{uid}:{gid}:Flynn:{}:/bin/bash", home.display());
    with_line(passwd, &line)
}

/// The text of a group file with the group of builds in it.
pub(crate) fn with_group(group: &str, user: User) -> String {
    with_line(group, &format!("flynn:x:{}:", user.gid))
}

fn with_line(text: &str, line: &str) -> String {
    let others = text.lines().filter(|line| !line.starts_with("flynn:"));
    others.chain([line]).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_there_once() {
        let once = with_account("root:x:0:0::/root:/bin/sh\n", User::FLYNN, Path::new("/tmp/home"));
        let twice = with_account(&once, User::FLYNN, Path::new("/app"));
        let want = "root:x:0:0::/root:/bin/sh\nflynn:x:5000:5000:Flynn:/app:/bin/bash\n";
        assert_eq!(twice, want);
        assert_eq!(with_group("", User::FLYNN), "flynn:x:5000:\n");
    }

    #[test]
    fn names_of_variables() {
        for good in ["A", "_a", "npm_config_x1"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in ["", "1A", "A-B", "A=B", ".x", "ä"] {
            assert!(!is_variable(bad), "{bad}");
        }
    }
}
