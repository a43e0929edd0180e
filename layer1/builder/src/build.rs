//! The steps of a build, in order.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use slug::{Procfile, SlugInfo};

use crate::archive::{self, Limits, Links};
use crate::cache;
use crate::config::{Config, User};
use crate::error::BuildError;
use crate::image::Image;
use crate::layout::{self, Layout};
use crate::output::Output;
use crate::pack::{self, Extra, Packed, Times, Tree};
use crate::runtime;
use crate::select::{self, Compiled};
use crate::slugignore;
use crate::store::Store;
use crate::surroundings::{self, Variables};

/// The most a source may hold.
const SOURCE_LIMITS: Limits = Limits { bytes: 4 << 30, entries: 500_000 };

/// Builds the source (a tar) into a slug that the controller knows afterwards. Dropping the future ends
/// every program of the build.
///
/// # Errors
/// When there is no slug, or the cache could not be kept; [`BuildError::exit_code`] is what the job
/// should end with.
pub async fn build(
    config: &Config,
    source: impl Read + Send + 'static,
    output: &Output,
) -> Result<(), BuildError> {
    let progress = Progress::default();
    let steps = steps(config, source, output, &progress);
    match tokio::time::timeout(config.timeout, steps).await {
        Ok(result) => result,
        Err(_) => Err(BuildError::Timeout { step: progress.now(), after: config.timeout }),
    }
}

/// What all steps share.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub output: Output,
    pub progress: Progress,
    pub store: Store,
    pub env: Variables,
}

/// What the build is busy with, for the message when it takes too long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<String>>);

impl Progress {
    pub(crate) fn at(&self, step: &str) {
        step.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn steps(
    config: &Config,
    source: impl Read + Send + 'static,
    output: &Output,
    progress: &Progress,
) -> Result<(), BuildError> {
    let layout = Layout::prepare(config)?;
    let build = Build {
        env: surroundings::of_buildpacks(config, &layout)
            .map_err(BuildError::io("cannot write the CA bundle"))?,
        config,
        layout: &layout,
        output: output.clone(),
        progress: progress.clone(),
        store: Store::new(config).map_err(|error| BuildError::Store(Box::new(error)))?,
    };
    unpack_source(&build, source).await?;
    cache::restore(&build).await;
    let known = runtime::restore(&build).await;
    ignore(&build)?;
    let compiled = select::compile(&build).await?;
    let info = process_types(&build, &compiled)?;
    let layers = store_layers(&build, known).await?;
    publish(&build, layers, &info).await?;
    cache::save(&build).await
}

async fn unpack_source(
    build: &Build<'_>,
    source: impl Read + Send + 'static,
) -> Result<(), BuildError> {
    build.progress.at("reading the source");
    let layout = build.layout.clone();
    let ssh = build.config.ssh.clone();
    blocking(move || {
        archive::unpack(source, &layout.app, SOURCE_LIMITS, Links::Inside)?;
        layout.take_environment().map_err(BuildError::io("cannot read the app's environment"))?;
        if let Some(ssh) = &ssh {
            layout.write_ssh(ssh).map_err(BuildError::io("cannot write the ssh key"))?;
        }
        let source = layout.app.canonicalize().and_then(|source| layout.give_tree(&source));
        source.map_err(BuildError::io("cannot hand the source to the build's user"))
    })
    .await
}

fn ignore(build: &Build<'_>) -> Result<(), BuildError> {
    let Some(text) = build.layout.app_text(".slugignore")? else { return Ok(()) };
    let removing = BuildError::io("cannot delete what .slugignore names");
    let count = slugignore::apply(&build.layout.app.join("."), &text).map_err(removing)?;
    build.output.title(&format!("Deleting {count} files matching .slugignore patterns."));
    Ok(())
}

fn process_types(build: &Build<'_>, compiled: &Compiled) -> Result<SlugInfo, BuildError> {
    build.output.title("Discovering process types");
    let procfile = build.layout.app_text("Procfile")?.map(|text| Procfile::parse(&text));
    if let Some(procfile) = &procfile {
        let types: Vec<_> = procfile.types().collect();
        build.output.note(&format!("Procfile declares types -> {}", types.join(", ")));
        for line in procfile.ignored() {
            build.output.complaint(&format!("line {line} of the Procfile is not TYPE: COMMAND"));
        }
    }
    let defaults: Vec<_> =
        compiled.release.default_process_types.keys().map(String::as_str).collect();
    if !defaults.is_empty() {
        let (name, types) = (&compiled.name, defaults.join(", "));
        build.output.note(&format!("Default process types for {name} -> {types}"));
    }
    Ok(SlugInfo::new(procfile, compiled.release.clone()))
}

/// Packs the app and its runtimes, and stores what the blob store does not have; bottom to top.
async fn store_layers(
    build: &Build<'_>,
    known: runtime::Known,
) -> Result<Vec<kit_artifact::Layer>, BuildError> {
    let runtimes = runtime::pack(build, known).await?;
    build.progress.at("packing the slug");
    let app = pack_app(build).await?;
    build.output.title("Uploading slug to blobstore");
    for packed in runtimes.to_store().chain([&app]) {
        upload(build, packed).await?;
    }
    build.output.title(&format!("Compiled slug size is {}", size(app.layer.length)));
    for line in runtimes.lines() {
        build.output.note(&line);
    }
    Ok(runtimes.layers().chain([app.layer]).collect())
}

async fn pack_app(build: &Build<'_>) -> Result<Packed, BuildError> {
    let (app, file) = (build.layout.app.clone(), build.layout.work.join("slug.squashfs"));
    let extras = accounts(build)?;
    blocking(move || {
        let tree = Tree { folder: &app, name: "app", owner: User::FLYNN, times: Times::Zero };
        pack::layer(&tree, &extras, file).map_err(BuildError::io("cannot pack the slug"))
    })
    .await
}

/// The system's accounts with the one that slugs run as.
fn accounts(build: &Build<'_>) -> Result<Vec<Extra>, BuildError> {
    let read = |name: &str| match &build.config.places.accounts {
        Some(folder) => std::fs::read_to_string(folder.join(name))
            .map_err(BuildError::io(format!("cannot read /etc/{name}"))),
        None => Ok(String::new()),
    };
    let home = std::path::Path::new("/app");
    let passwd = layout::with_account(&read("passwd")?, User::FLYNN, home);
    let group = layout::with_group(&read("group")?, User::FLYNN);
    Ok(vec![Extra { path: "etc/passwd", text: passwd }, Extra { path: "etc/group", text: group }])
}

async fn upload(build: &Build<'_>, packed: &Packed) -> Result<(), BuildError> {
    build.progress.at("uploading the slug");
    let stored = async {
        let url = layer_url(build.config, &packed.layer.id);
        if !build.store.has(&url).await? {
            build.store.put_file(&url, &packed.file).await?;
        }
        Ok(())
    };
    stored.await.map_err(|error: crate::store::StoreError| BuildError::Store(Box::new(error)))
}

/// Where a layer is.
pub(crate) fn layer_url(config: &Config, id: &kit_artifact::LayerId) -> String {
    format!("{}/slugs/layers/{id}.squashfs", config.blobstore_url)
}

async fn publish(
    build: &Build<'_>,
    layers: Vec<kit_artifact::Layer>,
    info: &SlugInfo,
) -> Result<(), BuildError> {
    build.progress.at("telling the controller of the slug");
    let config = build.config;
    let image = Image::new(&config.slug, &config.blobstore_url, layers, &info.process_types());
    let image = image.map_err(|error| BuildError::Store(Box::new(error)))?;
    build.store.publish(image).await.map_err(|error| BuildError::Store(Box::new(error)))
}

/// As people read sizes: `20.3MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes * 10 + unit / 2) / unit;
    let (tenths, unit) = match bytes {
        0..1024 => return format!("{bytes}B"),
        1024..0x10_0000 => (tenths(1 << 10), "KiB"),
        0x10_0000..0x4000_0000 => (tenths(1 << 20), "MiB"),
        0x4000_0000.. => (tenths(1 << 30), "GiB"),
    };
    format!("{}.{}{unit}", tenths / 10, tenths % 10)
}

/// Runs what waits for the disk or for another program beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(BuildError::Io { doing: "a step ended early".to_owned(), source: error.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (bytes, want) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (21_286_093, "20.3MiB"),
            (3 << 30, "3.0GiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}
