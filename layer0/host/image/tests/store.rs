//! The store with real squashfs files: import, fetch from a peer, mount, unpack, collect. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use host_image::{Fetcher, Form, Image, Images, Layer, LayerMounts, LayerStore, import};

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::write(dir.join("etc/name"), "hello\n").unwrap();
    std::os::unix::fs::symlink("etc/name", dir.join("link")).unwrap();
}

fn loops_of(dir: &Path) -> usize {
    let prefix = dir.to_str().unwrap().to_owned();
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let files =
        devices.filter_map(|dev| fs::read_to_string(dev.path().join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(&prefix)).count()
}

/// How many there are when that is as many as wanted, or after a long wait: a device that others look at as
/// well (udev does) goes when they have closed it.
fn loops_settled(dir: &Path, wanted: usize) -> usize {
    let started = Instant::now();
    while loops_of(dir) != wanted && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    loops_of(dir)
}

async fn imported(dir: &Path, form: Form) -> (LayerStore, Layer) {
    let source = dir.join("source");
    tree(&source);
    let store = LayerStore::open(dir.join("store"), form).unwrap();
    let layer = import::path(&store, &source).await.unwrap();
    (store, layer)
}

#[tokio::test]
async fn the_same_files_are_the_same_layer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = imported(dir.path(), Form::Squashfs).await;
    let other = dir.path().join("other");
    tree(&other);
    let second = import::directory(&store, &other).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(store.list().unwrap().len(), 1);
    let copy = dir.path().join("copy.squashfs");
    fs::copy(store.file(&first.key().unwrap()), &copy).unwrap();
    assert_eq!(import::path(&store, &copy).await.unwrap(), first);
    assert!(import::path(&store, Path::new("/etc/hostname")).await.is_err());
    assert_eq!(fs::read_dir(store.dir().join("parts")).unwrap().count(), 0, "no parts are left");
}

#[tokio::test]
async fn a_layer_is_mounted_once_and_its_loop_device_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, layer) = imported(dir.path(), Form::Squashfs).await;
    let key = layer.key().unwrap();
    let mounts = LayerMounts::new(store.clone()).keeping(0);
    let first = mounts.acquire(&key).unwrap();
    let second = mounts.acquire(&key).unwrap();
    assert_eq!(first.path(), second.path());
    assert_eq!(fs::read_to_string(second.path().join("link")).unwrap(), "hello\n");
    assert_eq!(loops_of(dir.path()), 1);
    drop(first);
    assert!(second.path().join("link").exists(), "somebody still uses it");
    // A daemon that died leaves the mount; the next one finds it.
    let next = LayerMounts::new(store.clone()).keeping(0);
    std::mem::forget(second);
    let found = next.acquire(&key).unwrap();
    assert_eq!(loops_of(dir.path()), 1);
    drop(found);
    assert_eq!((loops_settled(dir.path(), 0), next.sweep().unwrap()), (0, 0));
}

#[tokio::test]
async fn the_last_layers_used_stay_mounted_until_they_are_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = imported(dir.path(), Form::Squashfs).await;
    let other = dir.path().join("other");
    fs::create_dir_all(other.join("var")).unwrap();
    let second = import::directory(&store, &other).await.unwrap().key().unwrap();
    let first = first.key().unwrap();
    let mounts = LayerMounts::new(store.clone()).keeping(1);
    drop(mounts.acquire(&first).unwrap());
    assert_eq!((loops_of(dir.path()), mounts.in_use().len()), (1, 0), "mounted, used by nobody");
    let again = mounts.acquire(&first).unwrap();
    mounts.let_go(&first);
    assert!(again.path().join("link").exists(), "one in use is not let go");
    drop(again);
    drop(mounts.acquire(&second).unwrap());
    assert!(!store.mount_point(&first).exists(), "there is room for one");
    assert_eq!((loops_settled(dir.path(), 1), mounts.sweep().unwrap()), (1, 0));
    mounts.let_go(&second);
    assert_eq!(loops_settled(dir.path(), 0), 0);
}

#[tokio::test]
async fn a_layer_that_nobody_asked_for_again_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let (store, layer) = imported(dir.path(), Form::Squashfs).await;
    std::mem::forget(LayerMounts::new(store.clone()).acquire(&layer.key().unwrap()).unwrap());
    assert_eq!(LayerMounts::new(store).sweep().unwrap(), 1);
    assert_eq!(loops_settled(dir.path(), 0), 0);
}

#[tokio::test]
async fn a_layer_can_be_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, layer) = imported(dir.path(), Form::Directory).await;
    let key = layer.key().unwrap();
    let mounts = LayerMounts::new(store.clone());
    let mounted = mounts.acquire(&key).unwrap();
    assert_eq!(fs::read_to_string(mounted.path().join("etc/name")).unwrap(), "hello\n");
    drop(mounted);
    store.remove(&key).unwrap();
    assert!(!store.mount_point(&key).exists() && !store.has(&key));
}

#[tokio::test]
async fn a_missing_layer_comes_from_a_source_and_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (store, layer) = imported(dir.path(), Form::Squashfs).await;
    let key = layer.key().unwrap();
    let url = format!("file://{}", store.file(&key).display());
    let other = LayerStore::open(dir.path().join("other"), Form::Squashfs).unwrap();
    let fetcher = Fetcher::new(other.clone(), None);

    let nowhere = fetcher.ensure(&layer, &[]).await.unwrap_err();
    assert!(nowhere.to_string().contains("on no source"), "{nowhere}");
    let wrong = Layer {
        hashes: BTreeMap::from([("sha512_256".to_owned(), "0".repeat(64))]),
        url: url.clone(),
        ..layer.clone()
    };
    let refused = fetcher.ensure(&wrong, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("expected sha512_256"), "{refused}");
    assert!(!other.has(&wrong.key().unwrap()));
    let right = Layer { url, ..layer };
    let (first, second) = tokio::join!(fetcher.ensure(&right, &[]), fetcher.ensure(&right, &[]));
    assert_eq!(first.unwrap(), second.unwrap());
    assert!(other.has(&key));
}

#[tokio::test]
async fn images_have_names_and_their_layers_urls() {
    let dir = tempfile::tempdir().unwrap();
    let (_, layer) = imported(dir.path(), Form::Squashfs).await;
    let images = Images::open(dir.path().join("images.json"));
    assert_eq!(images.get("core").unwrap(), None);
    let image = Image::of_layers("core", std::slice::from_ref(&layer), "http://192.0.2.1:1113/");
    images.put(image.clone()).unwrap();
    let found = images.get("core").unwrap().unwrap();
    assert_eq!(found, image);
    let url = format!("http://192.0.2.1:1113/host/layers/{}", layer.id);
    assert_eq!(found.layers().unwrap(), [Layer { url, ..layer }]);
    let id = found.manifest_id().unwrap();
    assert_eq!(images.by_manifest(&id).unwrap(), Some(image));
    let moved = found.served_by("http://192.0.2.2:1113");
    assert_eq!(moved.artifact["uri"], format!("http://192.0.2.2:1113/host/images/{id}"));
}
