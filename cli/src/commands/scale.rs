//! `flynn scale`: how many jobs of each process type there should be.

mod request;
mod wait;

use std::collections::BTreeMap;

use controller_api::{Formation, Release, ScaleRequest};
use request::Request;

use super::deploy;
use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Show or change how many jobs of each process type run
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn scale [-n] [-r <release>] [-a] [<type>=<spec>...]")]
pub(crate) struct Args {
    /// Do not wait until the jobs are there
    #[arg(short = 'n', long)]
    no_wait: bool,
    /// The release, when it is not the current one
    #[arg(short, long)]
    release: Option<String>,
    /// Show the formations of all releases
    #[arg(short, long)]
    all: bool,
    /// How many: COUNT, and tags a host must have: COUNT,KEY=VALUE
    specs: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    if args.all && args.release.is_some() {
        return Err(Failure::said("ERROR: Can't use --all in combination with --release"));
    }
    if args.all && !args.specs.is_empty() {
        return Err(Failure::said("ERROR: Can't use --all when scaling"));
    }
    let (controller, app) = context.controller_and_app()?;
    if args.all {
        return show_all(&controller, &app, context).await;
    }
    let Some(release) = deploy::chosen(&controller, &app, args.release.as_deref()).await? else {
        return Err(Failure::said("No app release, specify a release with --release"));
    };
    if args.specs.is_empty() {
        return show(&controller, &app, &release, context).await;
    }
    let request = Request::parse(&args.specs, &release)?;
    change(&controller, &app, &release, request, !args.no_wait, context).await
}

/// Every process type of the release, zeros too; nothing when it has no formation.
async fn show(controller: &Controller, app: &str, release: &Release, context: &mut Context<'_>) -> Outcome {
    let id = id_of(release);
    let formation: Option<Formation> = controller.find(Path::of(&["apps", app, "formations", &id])).await?;
    let Some(formation) = formation else { return Ok(()) };
    let counts = formation.processes.unwrap_or_default();
    let all = release.processes.keys().map(|name| (name, counts.get(name).copied().unwrap_or(0)));
    context.say(listed(all))
}

fn listed<'a>(counts: impl Iterator<Item = (&'a String, u32)>) -> String {
    counts.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}

/// A block for each release with a formation, newest first.
async fn show_all(controller: &Controller, app: &str, context: &mut Context<'_>) -> Outcome {
    let current = deploy::current(controller, app).await?.and_then(|release| release.id);
    let releases: Vec<Release> = controller.get(Path::of(&["apps", app, "releases"])).await?;
    let formations: Vec<Formation> = controller.get(Path::of(&["apps", app, "formations"])).await?;
    let by_release: BTreeMap<_, _> =
        formations.into_iter().filter_map(|formation| Some((formation.release?, formation.processes))).collect();
    for (at, release) in releases.iter().enumerate() {
        let Some(counts) = release.id.as_ref().and_then(|id| by_release.get(id)) else { continue };
        if at > 0 {
            context.say("")?;
        }
        let mark = if release.id == current { " (current)" } else { "" };
        context.say(format!("{}{mark}", id_of(release)))?;
        let counts = counts.iter().flatten().map(|(name, count)| (name, *count));
        context.say(listed(counts.filter(|(_, count)| *count > 0)))?;
    }
    Ok(())
}

async fn change(
    controller: &Controller,
    app: &str,
    release: &Release,
    request: Request,
    waits: bool,
    context: &mut Context<'_>,
) -> Outcome {
    let started = std::time::Instant::now();
    let events = if waits { Some(wait::subscribe(controller, app).await?) } else { None };
    let body = ScaleRequest::pending(Some(request.counts), Some(request.tags));
    let path = Path::of(&["apps", app, "scale", &id_of(release)]);
    let answer: ScaleRequest = controller.put(path, &body).await?;
    context.say(format!("scaling {}\n", changes(&answer)))?;
    if let Some(events) = events {
        wait::until_complete(events, &answer, release, context).await?;
        context.say(format!("\nscale completed in {}", crate::render::go_duration(started.elapsed())))?;
    }
    Ok(())
}

/// `web: 1=>3, worker: 0=>1`: what differs, as the controller sees it.
fn changes(request: &ScaleRequest) -> String {
    let old = |name: &String| request.old_processes.get(name).copied().unwrap_or(0);
    let new = request.wanted_processes().into_iter().flatten();
    let changed = new.filter(|(name, count)| old(name) != **count);
    changed.map(|(name, count)| format!("{name}: {}=>{count}", old(name))).collect::<Vec<_>>().join(", ")
}

fn id_of(release: &Release) -> String {
    release.id.as_ref().map(ToString::to_string).unwrap_or_default()
}
