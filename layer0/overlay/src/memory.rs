//! The lease on this host's disk: what it boots with when there is no quorum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use netplan::Block;
use serde::{Deserialize, Serialize};

const FILE: &str = "subnet.json";

/// A subnet this host was given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) subnet: Block,
    pub(crate) mtu: u32,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct FileForm {
    subnet: String,
    mtu: u32,
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
        Some(Remembered { subnet: form.subnet.parse().ok()?, mtu: form.mtu })
    }

    /// Remembers a lease; when this returns, a power cut does not take it back.
    pub(crate) fn save(&self, lease: Remembered) -> Result<(), MemoryError> {
        self.replace(lease).map_err(|source| {
            let path = self.dir.join(FILE);
            MemoryError { action: "write", path, source }
        })
    }

    fn replace(&self, lease: Remembered) -> io::Result<()> {
        let form = FileForm { subnet: lease.subnet.to_string(), mtu: lease.mtu };
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
        let lease = Remembered { subnet: "10.3.1.0/24".parse().unwrap(), mtu: 1450 };
        memory.save(lease).unwrap();
        assert_eq!(Memory::open(&dir.path().join("overlay")).unwrap().load(), Some(lease));
        fs::write(dir.path().join("overlay").join(FILE), b"{").unwrap();
        assert_eq!(memory.load(), None);
    }
}
