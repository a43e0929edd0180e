//! What must outlive the daemon: leases and resting addresses, the subnet, and what `ip_forward` was.
//!
//! One small JSON file, replaced atomically and synced before the kernel is changed, so that a crash
//! never leaves a namespace or a rule that nobody remembers.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::addresses::Addresses;
use crate::overlay::Overlay;
use crate::subnet::Subnet;

const FILE: &str = "network.json";

/// The file's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Durable {
    /// The kernel's boot this was written in.
    pub(crate) boot: String,
    /// What `ip_forward` was before this host turned it on; absent while it was not touched.
    pub(crate) forwarding_was_on: Option<bool>,
    pub(crate) subnet: Option<Subnet>,
    pub(crate) mtu: u32,
    pub(crate) known_hosts: Vec<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overlay: Option<Overlay>,
    pub(crate) addresses: Addresses,
}

/// Where the file is.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes the directory, readable to its owner only.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What was written last; nothing if there is no file. A file that cannot be read as ours is an
    /// error, because overwriting it would forget namespaces and the old `ip_forward`.
    pub(crate) fn load(&self) -> io::Result<Durable> {
        match fs::read(self.dir.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Durable::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file; when this returns, a power cut does not take it back.
    pub(crate) fn save(&self, durable: &Durable) -> io::Result<()> {
        let new = self.dir.join(".network.json.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(durable)?)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Removes the file.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("network")).unwrap();
        assert_eq!(store.load().unwrap(), Durable::default());
        let subnet = "10.1.2.1/24".parse().unwrap();
        let durable = Durable { subnet: Some(subnet), mtu: 1450, ..Durable::default() };
        store.save(&durable).unwrap();
        assert_eq!(store.load().unwrap(), durable);
        let mode =
            fs::metadata(dir.path().join("network").join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.remove().unwrap();
        store.remove().unwrap();
    }

    #[test]
    fn a_broken_file_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(store.load().is_err());
    }
}
