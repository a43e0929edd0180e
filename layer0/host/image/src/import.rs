//! Making layers: a directory, a tar or a squashfs file becomes a layer of the store. The same content
//! gives the same layer: times are zero, entries sorted, nothing of the host is in the file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::store::io_error;
use crate::{Layer, LayerStore, StoreError};

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store or the source cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Neither a directory nor a known kind of file.
    #[error("{} is neither a directory nor a .tar, .squashfs or .sqsh file", .0.display())]
    Kind(PathBuf),
    /// The squashfs tool failed.
    #[error("{tool} failed: {stderr}")]
    Tool {
        /// Which program.
        tool: &'static str,
        /// What it said.
        stderr: String,
    },
}

/// Imports whatever `path` is.
pub async fn path(store: &LayerStore, path: &Path) -> Result<Layer, ImportError> {
    let about = fs::metadata(path).map_err(io_error("read", path))?;
    if about.is_dir() {
        return directory(store, path).await;
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("squashfs" | "sqsh") => file(store, path),
        Some("tar") => tar(store, path).await,
        Some(_) | None => Err(ImportError::Kind(path.to_owned())),
    }
}

/// Imports the files below a directory, with their owners and modes.
pub async fn directory(store: &LayerStore, dir: &Path) -> Result<Layer, ImportError> {
    let part = Part::new(store)?;
    let mut command = Command::new("mksquashfs");
    command.arg(dir).arg(part.path()).args(["-noappend", "-no-exports", "-no-progress", "-quiet"]);
    command.args(["-comp", "zstd", "-Xcompression-level", "9"]);
    // Both times: of the file system and of every entry.
    command.args(["-mkfs-time", "0", "-all-time", "0"]).stdin(Stdio::null());
    run(command, "mksquashfs").await?;
    part.into_layer(store)
}

/// Imports the entries of a tar file.
pub async fn tar(store: &LayerStore, file: &Path) -> Result<Layer, ImportError> {
    let part = Part::new(store)?;
    let mut command = Command::new("sqfstar");
    command.args(["-no-exports", "-no-progress", "-quiet", "-comp", "zstd"]);
    command
        .args(["-Xcompression-level", "9", "-mkfs-time", "0", "-all-time", "0"])
        .arg(part.path());
    command.stdin(File::open(file).map_err(io_error("open", file))?);
    run(command, "sqfstar").await?;
    part.into_layer(store)
}

/// Imports a squashfs file as it is.
pub fn file(store: &LayerStore, file: &Path) -> Result<Layer, ImportError> {
    let part = Part::new(store)?;
    fs::copy(file, part.path()).map_err(io_error("copy", file))?;
    part.into_layer(store)
}

/// A file in the making, removed unless it becomes a layer.
struct Part(tempfile::TempPath);

impl Part {
    fn new(store: &LayerStore) -> Result<Self, ImportError> {
        let parts = store.dir().join("parts");
        let file = tempfile::Builder::new().prefix("import-").tempfile_in(&parts);
        Ok(Self(file.map_err(io_error("make a file in", &parts))?.into_temp_path()))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn into_layer(self, store: &LayerStore) -> Result<Layer, ImportError> {
        let mut file = File::open(self.path()).map_err(io_error("open", self.path()))?;
        let layer = Layer::of_file(&mut file).map_err(io_error("read", self.path()))?;
        store.take(self.path(), &layer)?;
        Ok(layer)
    }
}

async fn run(mut command: Command, tool: &'static str) -> Result<(), ImportError> {
    command.kill_on_drop(true).env_remove("SOURCE_DATE_EPOCH");
    let output = command.output().await;
    let output = output.map_err(|source: io::Error| StoreError::Io {
        action: "run",
        path: tool.into(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ImportError::Tool { tool, stderr })
}
