//! Holds the repository against its own rules (ARCHITECTURE.md, "Invariants"): what pure crates may
//! use, which way dependencies point, that every file says what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Deserialize;

/// Crates that decide and do nothing else.
const PURE: [&str; 7] =
    ["host-job", "discoverd-registry", "netplan", "routes", "placement", "rollout", "sirenia"];

/// What pure crates may use beside `std`.
const PURE_MAY_USE: [&str; 5] = ["kit-ids", "kit-units", "kit-clock", "kit-backoff", "thiserror"];

/// What everything is built for (`.cargo/config.toml`).
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

/// Prints every breach; the exit status says whether there was one.
pub fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let metadata = crate::command::output(&[
        "cargo",
        "metadata",
        "--format-version=1",
        "--offline",
        // What other platforms would need was never downloaded.
        "--filter-platform",
        PLATFORM,
        "--manifest-path",
        &root.join("Cargo.toml").to_string_lossy(),
    ])?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut breaches = Vec::new();
    let ours: Vec<_> =
        metadata.packages.iter().filter(|package| package.source.is_none()).collect();
    for package in &ours {
        breaches.extend(impurities(package));
        breaches.extend(wrong_directions(package, &ours));
        breaches.extend(missing_documents(package));
    }
    breaches.extend(licences(&metadata.packages));
    breaches.extend(headerless_files(root)?);
    for breach in &breaches {
        complain(breach);
    }
    Ok(if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn directory(package: &Package) -> &Path {
    package.manifest_path.parent().unwrap_or(Path::new("."))
}

fn normal_dependencies(package: &Package) -> impl Iterator<Item = &Dependency> {
    package.dependencies.iter().filter(|dependency| dependency.kind.is_none())
}

fn impurities(package: &Package) -> Vec<String> {
    if !PURE.contains(&package.name.as_str()) {
        return Vec::new();
    }
    let mut found: Vec<_> = normal_dependencies(package)
        .filter(|dependency| !PURE_MAY_USE.contains(&dependency.name.as_str()))
        .map(|dependency| format!("{} is pure and must not use {}", package.name, dependency.name))
        .collect();
    let lints = directory(package).join("clippy.toml");
    let shared = std::fs::read_link(&lints).is_ok_and(|to| to.ends_with("script/pure-clippy.toml"));
    if !shared {
        found.push(format!(
            "{} is pure: {} must link to script/pure-clippy.toml",
            package.name,
            lints.display()
        ));
    }
    found
}

/// A component depends on other components' `api` and pure crates only; layer 0 knows nothing of layer 1; the kit
/// knows nobody.
fn wrong_directions(package: &Package, ours: &[&Package]) -> Vec<String> {
    let rooms: BTreeMap<_, _> =
        ours.iter().map(|other| (other.name.as_str(), room(other))).collect();
    let Some(from) = rooms.get(package.name.as_str()) else { return Vec::new() };
    let mut found = Vec::new();
    for dependency in normal_dependencies(package).filter(|dependency| dependency.path.is_some()) {
        let Some(to) = rooms.get(dependency.name.as_str()) else { continue };
        if let Some(why) = forbidden(from, to, &dependency.name) {
            found.push(format!("{} must not use {}: {why}", package.name, dependency.name));
        }
    }
    found
}

/// The folders of a crate below the root: `layer0/host/api`.
fn room(package: &Package) -> String {
    let path = directory(package).to_string_lossy().into_owned();
    let tops = ["/bin/", "/layer0/", "/layer1/", "/kit/", "/tests/", "/cli", "/bootstrap"];
    let start = tops.iter().filter_map(|top| path.rfind(top)).max().map_or(0, |at| at + 1);
    path[start..].to_owned()
}

fn forbidden(from: &str, to: &str, name: &str) -> Option<&'static str> {
    let component = |room: &str| room.split('/').take(2).collect::<Vec<_>>().join("/");
    // What is pure can reach nobody: using it is using an algorithm.
    let is_open = name.ends_with("-api") || PURE.contains(&name);
    if from.starts_with("bin/") || from.starts_with("tests/") {
        return None;
    }
    if from.starts_with("kit/") && !to.starts_with("kit/") {
        return Some("the kit knows nobody");
    }
    if from.starts_with("layer0/") && to.starts_with("layer1/") {
        return Some("layer 0 knows nothing of layer 1");
    }
    let both_components = to.starts_with("layer0/") || to.starts_with("layer1/");
    if both_components && component(from) != component(to) && !is_open {
        return Some("a component depends on other components' api and pure crates only");
    }
    None
}

fn missing_documents(package: &Package) -> Vec<String> {
    let readme = directory(package).join("README.md");
    if readme.exists() { Vec::new() } else { vec![format!("{} has no README.md", package.name)] }
}

/// Nothing that would put obligations on who ships our static binaries.
fn licences(packages: &[Package]) -> Vec<String> {
    let copyleft = |licence: &str| {
        let alternatives = licence.split(" OR ").flat_map(|part| part.split('/'));
        alternatives.into_iter().all(|part| part.contains("GPL"))
    };
    packages
        .iter()
        .filter(|package| package.license.as_deref().is_some_and(copyleft))
        .map(|package| format!("{} is under {:?}", package.name, package.license))
        .collect()
}

fn headerless_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let listed =
        crate::command::output(&["git", "-C", &root.to_string_lossy(), "ls-files", "*.rs"])?;
    let mut found = Vec::new();
    for file in listed.lines() {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        if !text.starts_with("//!") {
            found.push(format!("{file} does not open with `//!`"));
        }
    }
    Ok(found)
}

#[expect(clippy::print_stderr, reason = "the answer of a check")]
fn complain(breach: &str) {
    eprintln!("check: {breach}");
}
