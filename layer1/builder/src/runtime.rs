//! Language runtimes as layers of their own below the app's: a buildpack installs one into
//! `$FLYNN_RUNTIMES/NAME/VERSION`, where it will also run, and adds the line `NAME VERSION` to
//! `$FLYNN_RUNTIMES/used`. All apps with that runtime share its layer, which is made and stored once; the
//! next build of the app gets it from there (docs/adr/0003).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit_artifact::{Layer, verify};
use serde::{Deserialize, Serialize};

use crate::build::{Build, blocking, layer_url, size};
use crate::config::User;
use crate::error::BuildError;
use crate::pack::{self, Packed, Times, Tree};

/// The file in the build cache that names the runtimes of the build before.
const RECORD: &str = ".flynn-runtimes.json";
/// The file in which buildpacks say which runtimes the app needs, and how many it may need.
const USED: &str = "used";
const MAX_USED: usize = 20;
/// The most a runtime may weigh.
const MAX_SIZE: u64 = 2 << 30;
/// The system's owner: no app changes its runtime.
const ROOT: User = User { uid: 0, gid: 0 };

/// A runtime and the layer that holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Runtime {
    name: String,
    version: String,
    architecture: String,
    layer: Layer,
}

/// Runtimes that came back from the blob store, unchanged.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<Runtime>);

/// The runtimes of this build: those that were known and those that were made.
#[derive(Debug)]
pub(crate) struct Runtimes {
    all: Vec<Runtime>,
    made: Vec<Packed>,
}

impl Runtimes {
    /// Their layers.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer> {
        self.all.iter().map(|runtime| runtime.layer.clone())
    }

    /// What is to be stored.
    pub(crate) fn to_store(&self) -> impl Iterator<Item = &Packed> {
        self.made.iter()
    }

    /// For the person who pushes.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |runtime: &Runtime| {
            let Runtime { name, version, layer, .. } = runtime;
            format!("on the shared runtime {name} {version} ({})", size(layer.length))
        };
        self.all.iter().map(line).collect()
    }
}

/// Puts the runtimes of the build before in place. They stay the system's, so that they are still what
/// their layer is after a buildpack has run.
pub(crate) async fn restore(build: &Build<'_>) -> Known {
    let record = build.layout.cache.join(RECORD);
    let recorded: Vec<Runtime> = fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    drop(fs::remove_file(&record));
    let mut known = Vec::new();
    for runtime in recorded.into_iter().filter(is_plain) {
        build.progress.at(&format!("fetching the runtime {} {}", runtime.name, runtime.version));
        match restore_one(build, &runtime).await {
            Ok(true) => known.push(runtime),
            Ok(false) => {}
            Err(error) => tracing::info!(%error, "a runtime is not restored"),
        }
    }
    Known(known)
}

/// The record comes from the cache, which buildpacks write.
fn is_plain(runtime: &Runtime) -> bool {
    let here = runtime.architecture == std::env::consts::ARCH;
    is_name(&runtime.name) && is_name(&runtime.version) && here && runtime.layer.length <= MAX_SIZE
}

/// Whether a text can be the name or version of a runtime, which is a folder's.
fn is_name(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.bytes().all(is_known)
}

async fn restore_one(build: &Build<'_>, runtime: &Runtime) -> Result<bool, BuildError> {
    let file = build.layout.work.join("runtime.squashfs");
    let url = layer_url(build.config, &runtime.layer.id);
    let fetched = build.store.fetch(&url, &file, runtime.layer.length).await;
    if !fetched.map_err(|error| BuildError::Store(Box::new(error)))? {
        return Ok(false);
    }
    let layer = runtime.layer.clone();
    let (runtimes, work) = (build.layout.runtimes.clone(), build.layout.work.clone());
    let inner = Path::new("runtimes").join(&runtime.name).join(&runtime.version);
    let user = build.layout.clone();
    blocking(move || {
        let unpacked = unpack(&file, &layer, &work, &inner, &runtimes, &user);
        drop(fs::remove_file(&file));
        unpacked.map_err(BuildError::io("cannot unpack a runtime"))
    })
    .await
}

/// Unpacks a layer whose digest is right, and moves the runtime in it to its place.
fn unpack(
    file: &Path,
    layer: &Layer,
    work: &Path,
    inner: &Path,
    runtimes: &Path,
    layout: &crate::layout::Layout,
) -> io::Result<bool> {
    if verify(&fs::read(file)?, layer.length, &layer.hashes).is_err() {
        return Ok(false);
    }
    let to = work.join("runtime");
    drop(fs::remove_dir_all(&to));
    let ended = Command::new("unsquashfs")
        .args(["-no-progress", "-quiet", "-d"])
        .args([&to, file])
        .output()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start unsquashfs: {error}"))
        })?;
    let from = to.join(inner);
    if !ended.status.success() || !from.is_dir() {
        return Ok(false);
    }
    let relative = inner.strip_prefix("runtimes").map_err(io::Error::other)?;
    let place = runtimes.canonicalize()?.join(relative);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
        layout.give(parent)?;
    }
    fs::rename(&from, &place)?;
    drop(fs::remove_dir_all(&to));
    Ok(true)
}

/// Makes layers of the runtimes that the app needs and that are new, and records all for the next build.
pub(crate) async fn pack(build: &Build<'_>, known: Known) -> Result<Runtimes, BuildError> {
    let mut runtimes = Runtimes { all: Vec::new(), made: Vec::new() };
    for (name, version) in used(&build.layout.runtimes)? {
        let same = |runtime: &&Runtime| runtime.name == name && runtime.version == version;
        if let Some(runtime) = known.0.iter().find(same) {
            runtimes.all.push(runtime.clone());
            continue;
        }
        build.progress.at(&format!("packing the runtime {name} {version}"));
        let packed = pack_one(build, &name, &version, runtimes.made.len()).await?;
        let architecture = std::env::consts::ARCH.to_owned();
        let layer = packed.layer.clone();
        runtimes.all.push(Runtime { name, version, architecture, layer });
        runtimes.made.push(packed);
    }
    let text = serde_json::to_vec(&runtimes.all).unwrap_or_default();
    let recording = BuildError::io("cannot record the runtimes");
    fs::write(build.layout.cache.join(RECORD), text).map_err(recording)?;
    Ok(runtimes)
}

async fn pack_one(
    build: &Build<'_>,
    name: &str,
    version: &str,
    number: usize,
) -> Result<Packed, BuildError> {
    let folder = build.layout.runtimes.join(name).join(version);
    let inner = format!("runtimes/{name}/{version}");
    let file: PathBuf = build.layout.work.join(format!("runtime-{number}.squashfs"));
    blocking(move || {
        let tree = Tree { folder: &folder, name: &inner, owner: ROOT, times: Times::Zero };
        pack::layer(&tree, &[], file).map_err(BuildError::io("cannot pack a runtime"))
    })
    .await
}

/// What the buildpacks named, sorted; each must be there.
fn used(runtimes: &Path) -> Result<BTreeSet<(String, String)>, BuildError> {
    let reading = BuildError::io("cannot read which runtimes are used");
    let folder = runtimes.canonicalize().map_err(reading)?;
    // A link could lead to what only the builder may read.
    let file = folder.join(USED);
    let is_file = fs::symlink_metadata(&file).is_ok_and(|found| found.is_file());
    let text = is_file.then(|| fs::read_to_string(&file).ok()).flatten().unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_USED) {
        let (name, version) = line.split_once(' ').unwrap_or((line, ""));
        let is_there = is_name(name) && is_name(version) && is_folder(&folder, name, version);
        if !is_there {
            return Err(BuildError::Runtime { line: line.to_owned() });
        }
        found.insert((name.to_owned(), version.to_owned()));
    }
    Ok(found)
}

/// Whether a runtime is a folder in a folder, and no link.
fn is_folder(runtimes: &Path, name: &str, version: &str) -> bool {
    let outer = runtimes.join(name);
    let is_real = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    is_real(&outer) && is_real(&outer.join(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_folders() {
        for good in ["node", "22.23.3", "3.14.0-rc.1+x_y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
