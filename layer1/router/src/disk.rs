//! What survives a restart: routes with their certificates, the last backends of every service, the
//! page for status 503. Files are replaced atomically and readable by the owner only; one that cannot
//! be read is put aside, and one bad route in it costs only that route.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use router_api::Route;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::Instances;

const ROUTES: &str = "routes.json";
const BACKENDS: &str = "backends.json";
const PAGE: &str = "503.html";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

/// What was there.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) routes: Vec<Route>,
    pub(crate) backends: BTreeMap<String, Instances>,
    pub(crate) page: Option<Vec<u8>>,
}

impl Disk {
    /// Makes the directory if it is missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Reads what there is. Nothing here is a reason not to start.
    pub(crate) fn load(&self) -> Saved {
        let routes: Vec<Value> = self.read(ROUTES).unwrap_or_default();
        let route = |value| match serde_json::from_value(value) {
            Ok(route) => Some(route),
            Err(error) => {
                tracing::warn!(%error, "saved route cannot be read and is left out");
                None
            }
        };
        Saved {
            routes: routes.into_iter().filter_map(route).collect(),
            backends: self.read::<Known>(BACKENDS).map(|known| known.services).unwrap_or_default(),
            page: fs::read(self.dir.join(PAGE)).ok(),
        }
    }

    pub(crate) fn save_routes(&self, routes: &[Route]) -> io::Result<()> {
        self.write(ROUTES, &serde_json::to_vec(routes)?)
    }

    pub(crate) fn save_backends(&self, services: &BTreeMap<String, Instances>) -> io::Result<()> {
        self.write(BACKENDS, &serde_json::to_vec(&Known { services: services.clone() })?)
    }

    pub(crate) fn save_page(&self, page: &[u8]) -> io::Result<()> {
        self.write(PAGE, page)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.dir.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "file cannot be read");
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "file is damaged and put aside");
                // It would be overwritten otherwise, and may tell what happened.
                drop(fs::rename(&path, self.dir.join(format!("{name}.damaged"))));
                None
            }
        }
    }

    /// Writes beside the old file, makes sure it is on the disk, and swaps.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = self.dir.join(format!("{name}.new"));
        // Left by a crash; its mode may be wrong.
        drop(fs::remove_file(&beside));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// The form of the backends' file.
#[derive(Serialize, Deserialize)]
struct Known {
    services: BTreeMap<String, Instances>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_saved_is_there_again_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("data")).unwrap();
        let empty = disk.load();
        assert!(empty.routes.is_empty() && empty.backends.is_empty() && empty.page.is_none());
        let routes = vec![Route::http("a.example", "web"), Route::tcp(3000, "db")];
        let backends = BTreeMap::from([("web".to_owned(), Instances::at(["10.0.0.1:80"]))]);
        for _ in 0..2 {
            disk.save_routes(&routes).unwrap();
            disk.save_backends(&backends).unwrap();
            disk.save_page(b"<p>").unwrap();
        }
        let saved = disk.load();
        assert_eq!((saved.routes, saved.backends), (routes, backends));
        assert_eq!(saved.page.as_deref(), Some(&b"<p>"[..]));
        let mode = fs::metadata(dir.path().join("data").join(ROUTES)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_costs_as_little_as_possible() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let good = serde_json::to_string(&Route::http("a.example", "web")).unwrap();
        fs::write(dir.path().join(ROUTES), format!("[{{\"type\":\"udp\"}},{good},7]")).unwrap();
        fs::write(dir.path().join(BACKENDS), "{\"serv").unwrap();
        let saved = disk.load();
        assert_eq!(saved.routes, [Route::http("a.example", "web")]);
        assert!(saved.backends.is_empty());
        assert!(dir.path().join("backends.json.damaged").exists());
    }
}
