//! Which buildpacks build the app: the one that was asked for, those the app lists, or the first of ours
//! that takes it.

use std::fs;
use std::path::Path;

use slug::Release;

use crate::build::Build;
use crate::buildpack::Buildpack;
use crate::error::BuildError;
use crate::fetch::Origin;
use crate::surroundings;

/// The app's own list of buildpacks, one a line.
const LIST: &str = ".buildpacks";
/// How many it may name.
const MAX_LISTED: usize = 20;

/// What was built by what.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// What the app was taken for.
    pub name: String,
    pub release: Release,
}

/// Chooses and runs.
pub(crate) async fn compile(build: &Build<'_>) -> Result<Compiled, BuildError> {
    if let Some(url) = &build.config.buildpack_url {
        return asked_for(build, url).await;
    }
    if let Some(list) = build.layout.app_text(LIST)? {
        return listed(build, &list).await;
    }
    let (buildpack, name) = detected(build).await?;
    one(build, &buildpack, name).await
}

async fn asked_for(build: &Build<'_>, url: &str) -> Result<Compiled, BuildError> {
    let buildpack = match own(&build.config.places.buildpacks, url)? {
        Some(buildpack) => buildpack,
        None => {
            build.output.title("Fetching custom buildpack");
            fetched(build, url).await?
        }
    };
    let name = taken(build, &buildpack).await?;
    one(build, &buildpack, name).await
}

async fn one(
    build: &Build<'_>,
    buildpack: &Buildpack,
    name: String,
) -> Result<Compiled, BuildError> {
    build.output.title(&format!("{name} app detected"));
    buildpack.compile(build, &[]).await?;
    Ok(Compiled { release: buildpack.release(build).await?, name })
}

/// One after the other; each sees what those before it exported, the last one says how to start.
async fn listed(build: &Build<'_>, list: &str) -> Result<Compiled, BuildError> {
    build.output.title("Multipack app detected");
    let lines = list.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut exports, mut last) = (Vec::new(), None);
    for line in lines.take(MAX_LISTED) {
        let buildpack = match own(&build.config.places.buildpacks, line)? {
            Some(buildpack) => buildpack,
            None => {
                let origin = Origin::parse(line)?;
                build.output.note(&format!("=====> Downloading Buildpack: {}", origin.shown()));
                fetched(build, line).await?
            }
        };
        let name = taken(build, &buildpack).await?;
        build.output.note(&format!("=====> Detected Framework: {name}"));
        buildpack.compile(build, &exports).await?;
        exports.extend(buildpack.export());
        last = Some(buildpack);
    }
    let release = match &last {
        Some(buildpack) => buildpack.release(build).await?,
        None => Release::default(),
    };
    Ok(Compiled { name: "Multipack".to_owned(), release })
}

async fn fetched(build: &Build<'_>, url: &str) -> Result<Buildpack, BuildError> {
    let origin = Origin::parse(url)?;
    build.progress.at(&format!("fetching the buildpack {}", origin.shown()));
    let env = surroundings::of_fetches(&build.env, build.layout);
    let folder = origin.fetch(build.layout, &env).await?;
    Buildpack::new(origin.name(), folder)
}

/// What a buildpack that has to take the app calls it.
async fn taken(build: &Build<'_>, buildpack: &Buildpack) -> Result<String, BuildError> {
    let detected = buildpack.detect(build).await?;
    detected.map_err(|ended| BuildError::NotDetected { name: buildpack.name.clone(), ended })
}

/// The first of ours that takes the app.
async fn detected(build: &Build<'_>) -> Result<(Buildpack, String), BuildError> {
    for name in ours(&build.config.places.buildpacks) {
        let folder = build.config.places.buildpacks.join(&name);
        let buildpack = Buildpack::new(bare(&name), folder)?;
        if let Ok(detected) = buildpack.detect(build).await? {
            return Ok((buildpack, detected));
        }
    }
    build.output.title("Unable to select a buildpack");
    Err(BuildError::NoBuildpack)
}

/// One of ours by its name, as in `nodejs` or `heroku/nodejs`.
fn own(folder: &Path, text: &str) -> Result<Option<Buildpack>, BuildError> {
    let wanted = text.trim();
    let wanted = wanted.strip_prefix("heroku/").unwrap_or(wanted);
    let found = ours(folder).into_iter().find(|name| bare(name) == wanted);
    found.map(|name| Buildpack::new(bare(&name), folder.join(&name))).transpose()
}

/// The folders of our buildpacks in the order in which they are asked: `10-nodejs` before `20-static`.
fn ours(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn bare(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, bare)| bare)
}
