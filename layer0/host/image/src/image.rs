//! Images of a host by name: `images.json` maps a name to an artifact, as controllers know them, with
//! its manifest inline.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512_256};

use crate::Layer;

const MANIFEST_TYPE: &str = "application/vnd.flynn.image.manifest.v1+json";
const LAYER_TYPE: &str = "application/vnd.flynn.image.squashfs.v1";

/// A named image: an artifact with its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// The artifact, as it is given to controllers.
    pub artifact: Value,
}

/// Why an image cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no JSON object of artifacts.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The artifact's manifest is not one.
    #[error("image {0:?} has no usable manifest")]
    Manifest(String),
}

/// The parts of a manifest that running needs.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    rootfs: Vec<Rootfs>,
    #[serde(default)]
    entrypoints: BTreeMap<String, Entrypoint>,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    #[serde(default)]
    layers: Vec<ManifestLayer>,
}

#[derive(Debug, Deserialize, Serialize)]
struct ManifestLayer {
    id: String,
    length: u64,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entrypoint {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: String,
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

impl Image {
    /// An image of imported layers, bottom first, served by the host at `host_url`.
    pub fn of_layers(name: &str, layers: &[Layer], host_url: &str) -> Self {
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({"id": layer.id, "type": LAYER_TYPE, "length": layer.size, "hashes": layer.hashes})
            })
            .collect();
        let rootfs =
            json!([{"platform": {"architecture": "amd64", "os": "linux"}, "layers": layers}]);
        let manifest = json!({"_type": MANIFEST_TYPE, "rootfs": rootfs});
        Self::of_manifest(name, &manifest, host_url)
    }

    /// An image of a manifest, served by the host at `host_url`.
    pub fn of_manifest(name: &str, manifest: &Value, host_url: &str) -> Self {
        let text = canonical(manifest);
        let id = hex::encode(Sha512_256::digest(text.as_bytes()));
        let host_url = host_url.trim_end_matches('/');
        let artifact = json!({
            "type": "flynn",
            "uri": format!("{host_url}/host/images/{id}"),
            "meta": {"flynn.system-image": "true"},
            "manifest": manifest,
            "hashes": {"sha512_256": id},
            "size": text.len(),
            "layer_url_template": format!("{host_url}/host/layers/{{id}}"),
        });
        Self { name: name.to_owned(), artifact }
    }

    /// The manifest's id: the SHA-512/256 of its canonical JSON.
    pub fn manifest_id(&self) -> Option<String> {
        let manifest = self.artifact.get("manifest")?;
        Some(hex::encode(Sha512_256::digest(canonical(manifest).as_bytes())))
    }

    /// The manifest's canonical JSON, which its id and size are of.
    pub fn manifest_text(&self) -> Option<String> {
        self.artifact.get("manifest").map(canonical)
    }

    /// The same image as another host serves it.
    #[must_use]
    pub fn served_by(&self, host_url: &str) -> Self {
        match self.artifact.get("manifest") {
            Some(manifest) => Self::of_manifest(&self.name, manifest, host_url),
            None => self.clone(),
        }
    }

    /// The layers, bottom first, with the URLs of the artifact's template.
    pub fn layers(&self) -> Result<Vec<Layer>, ImageError> {
        let mut rootfs = self.manifest()?.rootfs;
        if rootfs.len() != 1 {
            return Err(ImageError::Manifest(self.name.clone()));
        }
        let template = self.artifact.get("layer_url_template").and_then(Value::as_str);
        let layers = rootfs.remove(0).layers.into_iter();
        Ok(layers
            .map(|layer| Layer {
                url: template.unwrap_or_default().replace("{id}", &layer.id),
                id: layer.id,
                size: layer.length,
                hashes: layer.hashes,
            })
            .collect())
    }

    /// The entrypoint that holds unless a process says otherwise.
    pub fn entrypoint(&self) -> Result<Entrypoint, ImageError> {
        Ok(self.manifest()?.entrypoints.remove("_default").unwrap_or_default())
    }

    fn manifest(&self) -> Result<Manifest, ImageError> {
        let wrong = || ImageError::Manifest(self.name.clone());
        let manifest = self.artifact.get("manifest").ok_or_else(wrong)?;
        Manifest::deserialize(manifest).map_err(|_| wrong())
    }
}

/// The file of named images. Every call reads it afresh, so that an import shows at once.
#[derive(Clone, Debug)]
pub struct Images {
    path: PathBuf,
}

impl Images {
    /// The images of a file; a missing one is empty.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All images.
    pub fn all(&self) -> Result<Vec<Image>, ImageError> {
        let artifacts = self.read()?.into_iter();
        Ok(artifacts.map(|(name, artifact)| Image { name, artifact }).collect())
    }

    /// The image of a name.
    pub fn get(&self, name: &str) -> Result<Option<Image>, ImageError> {
        Ok(self.all()?.into_iter().find(|image| image.name == name))
    }

    /// The image of a manifest id.
    pub fn by_manifest(&self, id: &str) -> Result<Option<Image>, ImageError> {
        Ok(self.all()?.into_iter().find(|image| image.manifest_id().as_deref() == Some(id)))
    }

    /// Adds an image or replaces the one of its name. Two imports at a time take turns.
    pub fn put(&self, image: Image) -> Result<(), ImageError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let lock_path = self.path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(io_error("make", &lock_path))?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        let mut artifacts = self.read()?;
        artifacts.insert(image.name, image.artifact);
        let temporary = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(&artifacts)
            .map_err(|source| ImageError::Damaged { path: self.path.clone(), source })?;
        let mut file = File::create(&temporary).map_err(io_error("make", &temporary))?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(io_error("rename", &temporary))?;
        File::open(folder).and_then(|dir| dir.sync_all()).map_err(io_error("sync", folder))
    }

    fn read(&self) -> Result<BTreeMap<String, Value>, ImageError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| ImageError::Damaged { path: self.path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(io_error("read", &self.path)(error)),
        }
    }
}

/// JSON with sorted keys and no spaces.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let entries: BTreeMap<_, _> =
                    map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                Value::Object(entries.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
    sorted(value).to_string()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { action, path, source }
}
