//! The lease on this host's disk, and everybody's as they were last: what it boots with, and finds the
//! other hosts by, when there is no quorum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use netplan::Block;
use serde::{Deserialize, Serialize};

use crate::registry::Registry;

const FILE: &str = "subnet.json";

/// A subnet this host was given once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) subnet: Block,
    pub(crate) mtu: u32,
    /// All leases as they were last; unknown in what an older version wrote.
    pub(crate) registry: Option<Registry>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct FileForm {
    subnet: String,
    mtu: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registry: Option<Registry>,
}

/// The directory the lease is remembered in.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    dir: PathBuf,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct MemoryError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Memory {
    pub(crate) fn open(dir: &Path) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError { action: "make", path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The remembered lease. One that cannot be read is as good as none: discoverd has it too.
    pub(crate) fn load(&self) -> Option<Remembered> {
        let bytes = fs::read(self.dir.join(FILE)).ok()?;
        let form: FileForm = serde_json::from_slice(&bytes).ok()?;
        let subnet = form.subnet.parse().ok()?;
        Some(Remembered { subnet, mtu: form.mtu, registry: form.registry })
    }

    /// Remembers a lease; when this returns, a power cut does not take it back.
    pub(crate) fn save(&self, lease: &Remembered) -> Result<(), MemoryError> {
        self.replace(lease).map_err(|source| {
            let path = self.dir.join(FILE);
            MemoryError { action: "write", path, source }
        })
    }

    fn replace(&self, lease: &Remembered) -> io::Result<()> {
        let registry = lease.registry.clone();
        let form = FileForm { subnet: lease.subnet.to_string(), mtu: lease.mtu, registry };
        let new = self.dir.join(".subnet.json.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&form)?)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_remembered_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(&dir.path().join("overlay")).unwrap();
        assert_eq!(memory.load(), None);
        let subnet: Block = "10.3.1.0/24".parse().unwrap();
        let input = netplan::ConfigInput::of("10.3.0.0/16".parse().unwrap());
        let registry = Registry::new(input, netplan::BackendKind::Vxlan);
        let lease = Remembered { subnet, mtu: 1450, registry: Some(registry) };
        memory.save(&lease).unwrap();
        assert_eq!(Memory::open(&dir.path().join("overlay")).unwrap().load(), Some(lease.clone()));
        let old = Remembered { registry: None, ..lease };
        fs::write(dir.path().join("overlay").join(FILE), br#"{"subnet":"10.3.1.0/24","mtu":1450}"#)
            .unwrap();
        assert_eq!(memory.load(), Some(old), "what an older version wrote");
        fs::write(dir.path().join("overlay").join(FILE), b"{").unwrap();
        assert_eq!(memory.load(), None);
    }
}
