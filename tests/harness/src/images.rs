//! System images: a Debian layer made by mmdebstrap, our binaries on top, both as squashfs files.
//!
//! A Debian layer is keyed by the hash of its definition and made once; a binary layer is made in
//! well under a second and keyed by its content, so that unchanged binaries keep their layer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Raised when the way layers are made changes, so that caches of the old way are not used.
const RECIPE: u32 = 2;

/// Paths of a Debian system that no job needs.
const EXCLUDED: [&str; 5] = [
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
];

/// One file of `images/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    suite: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    binaries: Vec<String>,
    #[serde(default)]
    ca_bundle: bool,
    #[serde(default)]
    files: Vec<Placed>,
    #[serde(default)]
    links: Vec<Link>,
}

/// A file or directory of the checkout in the upper layer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    /// Where in the image, absolute.
    path: PathBuf,
    /// Where in the checkout.
    source: PathBuf,
}

/// A symbolic link in the upper layer: another name of a program, say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    /// Where in the image, absolute.
    path: PathBuf,
    /// What it points to.
    target: PathBuf,
}

impl Definition {
    fn has_upper(&self) -> bool {
        let has_files = !self.files.is_empty() || !self.links.is_empty();
        !self.binaries.is_empty() || self.ca_bundle || has_files
    }
}

/// What `flynn-dev images` writes for each image: its layers, bottom to top.
#[derive(Debug, Serialize, Deserialize)]
pub struct Built {
    /// The image's name.
    pub name: String,
    /// Squashfs files, bottom to top.
    pub layers: Vec<PathBuf>,
}

/// Makes the images with the binaries below `bin` and writes `<cache>/images/<name>.json` for each.
pub fn build(cache: &Path, bin: &Path, names: &[String]) -> anyhow::Result<()> {
    for (name, definition) in definitions(names)? {
        let mut layers = Vec::new();
        layers.extend(base_layer(cache, &definition)?);
        layers.extend(binary_layer(cache, bin, &definition)?);
        let built = Built { name: name.clone(), layers };
        write_atomically(&built_path(cache, &name), &serde_json::to_vec_pretty(&built)?)?;
        say(&format!("image {name}: {} layers", built.layers.len()));
    }
    Ok(())
}

/// Makes only the Debian layers.
pub fn build_bases(cache: &Path, names: &[String]) -> anyhow::Result<()> {
    for (_, definition) in definitions(names)? {
        base_layer(cache, &definition)?;
    }
    Ok(())
}

/// The layers of an image made before.
pub fn built(cache: &Path, name: &str) -> anyhow::Result<Built> {
    let path = built_path(cache, name);
    let text = std::fs::read(&path)
        .with_context(|| format!("image {name} was not built: {} is missing", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn built_path(cache: &Path, name: &str) -> PathBuf {
    cache.join("images").join(format!("{name}.json"))
}

fn definitions(names: &[String]) -> anyhow::Result<Vec<(String, Definition)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("images").context("run this at the root of the checkout")? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if names.is_empty() || names.contains(&name) {
            let text = std::fs::read_to_string(&path)?;
            let definition = toml::from_str(&text).with_context(|| path.display().to_string())?;
            found.push((name, definition));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(unknown) = names.iter().find(|name| !found.iter().any(|(known, _)| known == *name))
    {
        bail!("there is no image {unknown:?} in images/");
    }
    Ok(found)
}

fn base_layer(cache: &Path, definition: &Definition) -> anyhow::Result<Option<PathBuf>> {
    let Some(suite) = &definition.suite else { return Ok(None) };
    let key = format!("{RECIPE} {suite} {:?} {EXCLUDED:?}", definition.packages);
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    let path = cache.join("layers").join(format!("debian-{suite}-{}.squashfs", &digest[..16]));
    if !path.exists() {
        let started = Instant::now();
        make_base(suite, &definition.packages, &path)?;
        say(&format!("{}: {} s", path.display(), started.elapsed().as_secs()));
    }
    Ok(Some(path))
}

/// mmdebstrap writes a tar stream, sqfstar a squashfs file: nothing is unpacked on this machine's
/// file systems except in mmdebstrap's own temporary directory.
fn make_base(suite: &str, packages: &[String], path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().context("a layer has a directory")?;
    std::fs::create_dir_all(directory)?;
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--variant=minbase", "--mode=root", "--format=tar", "--quiet"]);
    bootstrap.arg(format!("--include={}", packages.join(",")));
    bootstrap.args(["--aptopt=Apt::Install-Recommends \"false\""]);
    for excluded in EXCLUDED {
        bootstrap.arg(format!("--dpkgopt=path-exclude={excluded}"));
    }
    bootstrap.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    bootstrap.arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*.bin");
    bootstrap.args([suite, "-", &mirror()?]);
    bootstrap.env("SOURCE_DATE_EPOCH", "0").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut bootstrap = bootstrap.spawn().context("cannot start mmdebstrap")?;
    let tar = bootstrap.stdout.take().context("its output was asked for")?;
    let squashed = Command::new("sqfstar")
        .args(["-comp", "lz4", "-no-progress", "-quiet"])
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .arg(&part)
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(tar)
        .stdout(Stdio::null())
        .status()
        .context("cannot start sqfstar")?;
    let bootstrapped = bootstrap.wait()?;
    if !bootstrapped.success() || !squashed.success() {
        drop(std::fs::remove_file(&part));
        bail!("making the {suite} layer failed: mmdebstrap {bootstrapped}, sqfstar {squashed}");
    }
    File::open(&part)?.sync_all()?;
    Ok(std::fs::rename(&part, path)?)
}

/// The first mirror of this machine's own package sources.
pub(crate) fn mirror() -> anyhow::Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for text in files.iter().filter_map(|path| std::fs::read_to_string(path).ok()) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let address = match words.next() {
                Some("URIs:") => words.next(),
                Some("deb") => words.find(|word| word.starts_with("http")),
                _ => None,
            };
            if let Some(address) = address {
                return Ok(address.to_owned());
            }
        }
    }
    bail!("no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d")
}

fn binary_layer(
    cache: &Path,
    bin: &Path,
    definition: &Definition,
) -> anyhow::Result<Option<PathBuf>> {
    if !definition.has_upper() {
        return Ok(None);
    }
    let staged = cache.join(format!("stage-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&staged));
    let result = stage_and_squash(cache, bin, definition, &staged);
    drop(std::fs::remove_dir_all(&staged));
    result.map(Some)
}

fn stage_and_squash(
    cache: &Path,
    bin: &Path,
    definition: &Definition,
    staged: &Path,
) -> anyhow::Result<PathBuf> {
    stage_programs(bin, definition, staged)?;
    for placed in &definition.files {
        let to = inside(staged, &placed.path)?;
        copy_tree(&placed.source, &to)
            .with_context(|| format!("cannot copy {}", placed.source.display()))?;
    }
    for link in &definition.links {
        let at = inside(staged, &link.path)?;
        std::os::unix::fs::symlink(&link.target, &at)
            .with_context(|| format!("cannot make the link {}", link.path.display()))?;
    }
    squash(cache, staged)
}

fn stage_programs(bin: &Path, definition: &Definition, staged: &Path) -> anyhow::Result<()> {
    // Debian's /bin is a link to /usr/bin; a directory above it would hide it.
    let (programs, bundle) = (staged.join("usr/bin"), "etc/ssl/certs/ca-certificates.crt");
    std::fs::create_dir_all(&programs)?;
    if definition.suite.is_none() {
        std::os::unix::fs::symlink("usr/bin", staged.join("bin"))?;
        std::fs::create_dir_all(staged.join("tmp"))?;
        std::fs::create_dir_all(staged.join("etc"))?;
    }
    for name in &definition.binaries {
        let from = bin.join(name);
        std::fs::copy(&from, programs.join(name))
            .with_context(|| format!("{} is missing: build first", from.display()))?;
    }
    if definition.ca_bundle {
        let to = staged.join(bundle);
        std::fs::create_dir_all(to.parent().context("it has a directory")?)?;
        std::fs::copy(Path::new("/").join(bundle), &to)
            .context("no CA bundle: install ca-certificates")?;
    }
    Ok(())
}

/// Where `path` of the image is staged; its parents are made.
fn inside(staged: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let is_plain = path.components().all(|part| {
        matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
    });
    let relative = path.strip_prefix("/").ok().filter(|_| is_plain);
    let relative = relative.with_context(|| format!("{} must be absolute", path.display()))?;
    let at = staged.join(relative);
    std::fs::create_dir_all(at.parent().context("it has a directory")?)?;
    Ok(at)
}

/// Copies a file or a directory with all that is in it; modes are kept.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop);
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn squash(cache: &Path, staged: &Path) -> anyhow::Result<PathBuf> {
    let part = cache.join("layers").join(format!("part-{}", std::process::id()));
    std::fs::create_dir_all(cache.join("layers"))?;
    drop(std::fs::remove_file(&part));
    let status = Command::new("mksquashfs")
        .args([staged, &part])
        .args(["-comp", "lz4", "-no-progress", "-quiet"])
        .args(["-all-root", "-noappend", "-all-time", "0"])
        .args(["-mkfs-time", "0"])
        .env_remove("SOURCE_DATE_EPOCH")
        .stdout(Stdio::null())
        .status()
        .context("cannot start mksquashfs")?;
    if !status.success() {
        bail!("mksquashfs failed: {status}");
    }
    let digest = hex::encode(Sha256::digest(std::fs::read(&part)?));
    let path = cache.join("layers").join(format!("bin-{}.squashfs", &digest[..16]));
    // The same content keeps its file, so that whoever imported it sees that nothing changed.
    if path.exists() {
        std::fs::remove_file(&part)?;
    } else {
        std::fs::rename(&part, &path)?;
    }
    Ok(path)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::create_dir_all(path.parent().context("it has a directory")?)?;
    let part = path.with_extension(format!("part-{}", std::process::id()));
    std::fs::write(&part, bytes)?;
    Ok(std::fs::rename(part, path)?)
}

#[expect(clippy::print_stdout, reason = "a command's progress")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_image_are_staged_below_its_root() {
        let staged = std::env::temp_dir().join(format!("images-test-{}", std::process::id()));
        let at = inside(&staged, Path::new("/runner/init")).unwrap();
        assert_eq!(at, staged.join("runner/init"));
        for bad in ["relative", "/a/../../b"] {
            assert!(inside(&staged, Path::new(bad)).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(&staged).unwrap();
    }
}
