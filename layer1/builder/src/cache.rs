//! What buildpacks keep between the builds of an app: one compressed archive in the blob store. Losing
//! it only costs time, so nothing that is wrong with it ends a build before the slug is there.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::archive::{self, Limits, Links};
use crate::build::{Build, blocking};
use crate::config::User;
use crate::error::BuildError;
use crate::pack::{self, Times, Tree};

/// The most a cache may hold.
const LIMITS: Limits = Limits { bytes: 8 << 30, entries: 2_000_000 };
/// The most that may stand behind an archive's end.
const PADDING: u64 = 1 << 20;

/// Brings the cache of the build before back, if there is one.
pub(crate) async fn restore(build: &Build<'_>) {
    let Some(url) = &build.config.cache_url else { return };
    build.progress.at("fetching the build cache");
    let file = build.layout.work.join("old-cache.tgz");
    match build.store.fetch(url, &file, LIMITS.bytes).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return tracing::info!(%error, "no build cache"),
    }
    let cache = build.layout.cache.clone();
    let unpacked = blocking(move || {
        let result = unpack(&file, &cache);
        drop(fs::remove_file(&file));
        if result.is_err() {
            // Half of what a buildpack kept may mislead it.
            let emptied = fs::remove_dir_all(&cache).and_then(|()| fs::create_dir(&cache));
            emptied.map_err(BuildError::io("cannot empty the build cache"))?;
        }
        Ok(result)
    });
    match unpacked.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::info!(reason, "the build cache is not usable"),
        Err(error) => tracing::info!(%error, "the build cache is not usable"),
    }
    let layout = build.layout;
    if let Err(error) = layout.give_tree(&layout.cache) {
        tracing::info!(%error, "the build cache keeps its owner");
    }
}

/// Keeps the cache for the next build.
pub(crate) async fn save(build: &Build<'_>) -> Result<(), BuildError> {
    let Some(url) = &build.config.cache_url else { return Ok(()) };
    build.progress.at("storing the build cache");
    let file = build.layout.work.join("new-cache.tgz");
    let (cache, to) = (build.layout.cache.clone(), file.clone());
    let packed =
        blocking(move || pack(&cache, &to).map_err(BuildError::io("cannot pack the build cache")));
    packed.await?;
    build.store.put_file(url, &file).await.map_err(|error| BuildError::Cache(Box::new(error)))
}

fn unpack(file: &Path, cache: &Path) -> Result<(), String> {
    let run = || -> io::Result<Result<(), archive::ArchiveError>> {
        let mut gzip = gzip(&["-dc"], Stdio::from(File::open(file)?), Stdio::piped())?;
        let mut tar = gzip.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let unpacked = archive::unpack(&mut tar, cache, LIMITS, Links::Anywhere);
        if unpacked.is_err() {
            drop(gzip.kill());
            gzip.wait()?;
            return Ok(unpacked);
        }
        // What stands behind the archive's end is padding; only gzip knows whether the file is whole.
        io::copy(&mut tar.take(PADDING), &mut io::sink())?;
        let status = gzip.wait()?;
        if status.success() { Ok(unpacked) } else { Err(io::Error::other("it is damaged")) }
    };
    run().map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn pack(cache: &Path, to: &PathBuf) -> io::Result<()> {
    let mut gzip = gzip(&["-1"], Stdio::piped(), Stdio::from(File::create(to)?))?;
    let tree = Tree { folder: cache, name: "", owner: User::FLYNN, times: Times::Kept };
    let written = match gzip.stdin.take() {
        Some(stdin) => pack::archive(&tree, &[], io::BufWriter::with_capacity(256 << 10, stdin)),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let status = gzip.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("gzip failed: {status}"))) }
}

fn gzip(arguments: &[&str], from: Stdio, to: Stdio) -> io::Result<Child> {
    Command::new("gzip").args(arguments).stdin(from).stdout(to).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_comes_back_with_links_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("bin/tool"), "tool").unwrap();
        std::os::unix::fs::symlink("/usr/bin/env", from.join("env")).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options()
            .write(true)
            .open(from.join("bin/tool"))
            .unwrap()
            .set_modified(then)
            .unwrap();
        let file = dir.path().join("cache.tgz");
        pack(&from, &file).unwrap();
        unpack(&file, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("bin/tool")).unwrap(), "tool");
        assert_eq!(fs::metadata(to.join("bin/tool")).unwrap().modified().unwrap(), then);
        assert_eq!(fs::read_link(to.join("env")).unwrap(), Path::new("/usr/bin/env"));
        let (empty, whole) = (dir.path().join("empty"), fs::read(&file).unwrap());
        fs::create_dir(&empty).unwrap();
        fs::write(&file, "no archive at all").unwrap();
        drop(unpack(&file, &empty));
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert!(unpack(&file, &empty).is_err(), "{length} of {} bytes", whole.len());
            fs::remove_dir_all(&empty).unwrap();
            fs::create_dir(&empty).unwrap();
        }
    }
}
