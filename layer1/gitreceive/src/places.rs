//! The server's directory: git's configuration, the hook, one working copy per request. Emptied at the
//! start, because what a killed server left there is of no use to anybody.

use std::io;
use std::path::{Path, PathBuf};

use kit_units::Bytes;
use tempfile::TempDir;

use crate::config::Config;
use crate::git::Git;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    root: PathBuf,
    protocols: String,
    path: String,
}

impl Places {
    /// Empties and fills the directory.
    pub(crate) fn prepare(config: &Config) -> io::Result<Self> {
        let root = config.directory.clone();
        match std::fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let hooks = root.join("hooks");
        std::fs::create_dir_all(&hooks)?;
        std::os::unix::fs::symlink(&config.hook_program, hooks.join("pre-receive"))?;
        let root = root.canonicalize()?;
        let settings = git_settings(&root.join("hooks"), config.limits.body);
        std::fs::write(root.join("gitconfig"), settings)?;
        Ok(Self { root, protocols: config.protocols.clone(), path: config.path.clone() })
    }

    /// A new, empty directory; removed with the value.
    pub(crate) fn working_copy(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("work-").tempdir_in(&self.root)
    }

    /// git for a working copy.
    pub(crate) fn git(&self, directory: &Path) -> Git {
        Git {
            directory: directory.to_owned(),
            config: self.root.join("gitconfig"),
            protocols: self.protocols.clone(),
            path: self.path.clone(),
        }
    }
}

/// The hooks of the stored repository are never looked at: `core.hooksPath` is ours.
fn git_settings(hooks: &Path, body: Bytes) -> String {
    let quoted = hooks.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let max = body.0;
    format!(
        "[core]\n\thooksPath = \"{quoted}\"\n\
         [init]\n\tdefaultBranch = master\n\
         [gc]\n\tautoDetach = false\n\
         [receive]\n\tdenyCurrentBranch = ignore\n\tdenyDeleteCurrent = ignore\n\tmaxInputSize = {max}\n\
         [safe]\n\tdirectory = *\n\
         [advice]\n\tdetachedHead = false\n"
    )
}
