//! Images as a build of the platform leaves them: a directory with a `.json` file for each, which names
//! the image and its layers' squashfs files, the lowest first. Images that did not change since they were
//! imported are left alone: hashing half a gigabyte of layers takes longer than everything else of a
//! second `script/up`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use host_image::{Image, Images, Layer, LayerStore, import};
use serde::{Deserialize, Serialize};

use crate::say;

/// Layers hashed at a time: reading and hashing take turns.
const AT_ONCE: usize = 2;

/// One file of the directory.
#[derive(Debug, Deserialize)]
struct Built {
    name: String,
    layers: Vec<PathBuf>,
}

/// What an image was imported from, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Imported {
    files: Vec<SourceFile>,
    manifest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SourceFile {
    path: PathBuf,
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

/// Imports what is new or changed.
pub(super) async fn import_all(
    dir: &Path,
    record: &Path,
    store: &LayerStore,
    images: &Images,
    url: &str,
) -> anyhow::Result<()> {
    let mut known = read_record(record);
    for built in list(dir)? {
        let files = built.layers.iter().map(|path| SourceFile::of(path));
        let files = files.collect::<anyhow::Result<Vec<_>>>()?;
        if is_imported(known.get(&built.name), &files, store, images, &built.name)? {
            continue;
        }
        let image = Image::of_layers(&built.name, &layers(store, built.layers).await?, url);
        let manifest = image.manifest_id().unwrap_or_default();
        say(&format!("imported {} {manifest}\n", built.name));
        images.put(image)?;
        known.insert(built.name, Imported { files, manifest });
        write_record(record, &known)?;
    }
    Ok(())
}

/// Whether the same files were imported, and what became of them is still there.
fn is_imported(
    known: Option<&Imported>,
    files: &[SourceFile],
    store: &LayerStore,
    images: &Images,
    name: &str,
) -> anyhow::Result<bool> {
    let (Some(known), Some(image)) = (known, images.get(name)?) else { return Ok(false) };
    let is_there = |layer: &Layer| layer.key().is_ok_and(|key| store.has(&key));
    Ok(known.files == files
        && image.manifest_id().as_ref() == Some(&known.manifest)
        && image.layers()?.iter().all(is_there))
}

async fn layers(store: &LayerStore, paths: Vec<PathBuf>) -> anyhow::Result<Vec<Layer>> {
    let imports = paths.into_iter().map(|path| {
        let store = store.clone();
        async move {
            let imported = tokio::task::spawn_blocking(move || import::file(&store, &path));
            Ok::<_, anyhow::Error>(imported.await??)
        }
    });
    stream::iter(imports).buffered(AT_ONCE).try_collect().await
}

fn list(dir: &Path) -> anyhow::Result<Vec<Built>> {
    let mut all = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            let built = serde_json::from_slice(&text);
            all.push(built.with_context(|| format!("{} describes no image", path.display()))?);
        }
    }
    all.sort_by(|a: &Built, b: &Built| a.name.cmp(&b.name));
    Ok(all)
}

impl SourceFile {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let about = fs::metadata(path).with_context(|| format!("no layer {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            inode: about.ino(),
        })
    }
}

/// A record that is missing or damaged costs an import, nothing else.
fn read_record(path: &Path) -> BTreeMap<String, Imported> {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write_record(path: &Path, known: &BTreeMap<String, Imported>) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(known)?)?;
    fs::rename(&new, path).context("cannot note what was imported")
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_image::Form;

    #[tokio::test]
    async fn an_image_is_imported_again_when_its_files_changed_or_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (layer, built) = (dir.path().join("a.squashfs"), dir.path().join("built"));
        fs::write(&layer, "one").unwrap();
        fs::create_dir(&built).unwrap();
        let text = serde_json::json!({"name": "a", "layers": [&layer]}).to_string();
        fs::write(built.join("a.json"), text).unwrap();
        let store = LayerStore::open(dir.path().join("layers"), Form::Squashfs).unwrap();
        let images = Images::open(dir.path().join("images.json"));
        let record = dir.path().join("imported.json");
        let import = || import_all(&built, &record, &store, &images, "http://host");
        let file = || {
            let image = images.get("a").unwrap().unwrap();
            store.file(&image.layers().unwrap()[0].key().unwrap())
        };
        import().await.unwrap();
        // What is there is not looked at again, so this stays.
        fs::write(file(), "seen").unwrap();
        import().await.unwrap();
        assert_eq!(fs::read(file()).unwrap(), b"seen");
        fs::remove_file(file()).unwrap();
        import().await.unwrap();
        assert_eq!(fs::read(file()).unwrap(), b"one");
        fs::write(&layer, "another").unwrap();
        import().await.unwrap();
        assert_eq!(fs::read(file()).unwrap(), b"another");
    }
}
