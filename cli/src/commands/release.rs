//! `flynn release`: what an app has run, runs, and is to run.

mod merge;
mod remove;
mod show;

use controller_api::{Artifact, ArtifactType, Release};
use sha2::{Digest as _, Sha512_256};

use super::deploy;
use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{Table, ago};

/// Manage releases
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn release [-q|--quiet]\n\
    flynn release add [-t <type>] [-f <file>] <uri>\n\
    flynn release show [--json] [<id>]\n\
    flynn release update <file> [<id>] [--clean]\n\
    flynn release delete [-y] <id>\n\
    flynn release rollback [-y] [<id>]")]
pub(crate) struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a release of an image
    Add {
        /// The image's kind
        #[arg(short = 't', long = "type", default_value = "docker")]
        kind: String,
        /// JSON of what else the release has
        #[arg(short, long)]
        file: Option<String>,
        /// Where the image's manifest is
        uri: String,
    },
    /// Show a release, the current one without an id
    Show {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        /// Which
        id: Option<String>,
    },
    /// Make a release from another one, changed by a file
    Update {
        /// JSON of what changes
        file: String,
        /// Which; the current one without
        id: Option<String>,
        /// Keep nothing of the old one but its images
        #[arg(long)]
        clean: bool,
    },
    /// Take a release away
    Delete {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Which
        id: String,
    },
    /// Deploy an earlier release
    Rollback {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Which; the one before the current one without
        id: Option<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(args.quiet, context).await,
        Some(Action::Add { kind, file, uri }) => add(&kind, file.as_deref(), uri, context).await,
        Some(Action::Show { json, id }) => show::run(json, id.as_deref(), context).await,
        Some(Action::Update { file, id, clean }) => update(&file, id.as_deref(), clean, context).await,
        Some(Action::Delete { yes, id }) => remove::run(yes, &id, context).await,
        Some(Action::Rollback { yes, id }) => rollback(yes, id, context).await,
    }
}

async fn releases(controller: &Controller, app: &str) -> Result<Vec<Release>, Failure> {
    controller.get(Path::of(&["apps", app, "releases"])).await
}

fn id_of(release: &Release) -> String {
    release.id.as_ref().map(ToString::to_string).unwrap_or_default()
}

async fn list(quiet: bool, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let releases = releases(&controller, &app).await?;
    if quiet {
        return context.print(&releases.iter().map(|release| id_of(release) + "\n").collect::<String>());
    }
    let mut table = Table::with_header(&["ID", "Created"]);
    let now = chrono::Utc::now();
    for release in releases {
        table.row([id_of(&release), ago(release.created_at.map(|at| at.0), now)]);
    }
    context.print(&table.render())
}

async fn add(kind: &str, file: Option<&str>, uri: String, context: &mut Context<'_>) -> Outcome {
    let kind = match kind {
        // The original's word for an image, whatever its form.
        "docker" | "flynn" => ArtifactType::Flynn,
        _ => return Err(Failure::said(format!("Release type {kind} not supported."))),
    };
    let (controller, app) = context.controller_and_app()?;
    let wanted: Release = match file {
        Some(file) => read_json(file, context)?,
        None => Release::default(),
    };
    let artifact = described(Artifact { kind: Some(kind), uri, ..Artifact::default() }).await;
    let artifact: Artifact = controller.post(Path::of(&["artifacts"]), &artifact).await?;
    let release = Release { artifacts: artifact.id.into_iter().collect(), ..wanted };
    let id = deploy::create_and_deploy(&controller, &app, release).await?;
    context.tell(format!("Created release {id}."))
}

/// Adds size and digest of the manifest, as far as it can be had from here: the controller takes only
/// manifests it can verify, and says what it misses.
async fn described(artifact: Artifact) -> Artifact {
    let fetched = async {
        let client = kit_http::Client::new(&artifact.uri)?;
        client.send(kit_http::Request::get(&artifact.uri)).await?.bytes().await
    };
    let Ok(manifest) = fetched.await else { return artifact };
    let digest = hex::encode(Sha512_256::digest(&manifest));
    let hashes = [("sha512_256".to_owned(), digest)].into();
    let size = i64::try_from(manifest.len()).unwrap_or(i64::MAX);
    Artifact { size, hashes, ..artifact }
}

async fn update(file: &str, id: Option<&str>, clean: bool, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let changes: Release = read_json(file, context)?;
    let old = deploy::chosen(&controller, &app, id).await?;
    let old = old.ok_or_else(|| Failure::said("controller: resource not found"))?;
    for (name, _) in changes.processes.iter().filter(|(_, process)| process.data) {
        context.tell(format!("WARN: `data` of process {name:?} is deprecated: use `volumes`"))?;
    }
    let base = if clean { Release { artifacts: old.artifacts, ..Release::default() } } else { old };
    let id = deploy::create_and_deploy(&controller, &app, merge::merged(base, changes)).await?;
    context.tell(format!("Created release {id}."))
}

async fn rollback(yes: bool, id: Option<String>, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let current: Release = controller.get(Path::of(&["apps", &app, "release"])).await?;
    let target = match id {
        Some(id) => controller.get::<Release>(Path::of(&["releases", &id])).await?,
        None => {
            let mut releases = releases(&controller, &app).await?;
            if releases.len() < 2 {
                return Err(Failure::said("Not enough releases to perform a rollback."));
            }
            releases.swap_remove(1)
        }
    };
    if target.id == current.id {
        return Err(Failure::said("Release id given is the current release."));
    }
    let (to, from) = (id_of(&target), id_of(&current));
    if !yes && !context.confirm(&format!("Are you sure you want to rollback to release {to:?}?"))? {
        return Ok(());
    }
    context.tell(format!("Rolling back to release {to} from {from}."))?;
    if let Some(id) = &target.id {
        deploy::deploy(&controller, &app, id).await?;
    }
    context.tell(format!("Successfully rolled back to release {to}."))
}

/// The file, or stdin for `-`.
fn read_json(file: &str, context: &mut Context<'_>) -> Result<Release, Failure> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut context.streams.input, &mut text).map(|_| text)
    } else {
        std::fs::read_to_string(context.environment.directory.join(file))
    };
    let text = text.map_err(Failure::io(format!("could not read {file}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::said(format!("{file} is no release: {error}")))
}
