//! Steps that are done through the controller: telling it of apps that run already, having it run the
//! others, routes to them. Each may be done again: what exists already is taken as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use controller_api::{Client, Formation, JobState, META_SYSTEM_IMAGE, Provider, Resource};
use kit_http::{ClientError, ErrorCode};
use kit_ids::ProviderId;
use router_api::Route;
use serde::Serialize;
use tokio::time::Instant;

use super::run_app::{Plan, image, planned};
use super::{ActionError, Context, call};
use crate::steps::{AppSpec, RouteSpec};

/// Where the controller is, as discoverd knows it.
const CONTROLLER: &str = "http://controller.discoverd";
/// Between two looks at an app's jobs.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells the controller of an app that an earlier step runs.
pub(super) async fn add_app(from: &'static str, context: &Context<'_>) -> Result<(), ActionError> {
    let plan: Plan = context.record.data(from)?.ok_or(ActionError::NotRun(from))?;
    let client = client(context).await?;
    register(&plan, &client).await
}

/// Has the controller run an app, and waits until it does.
pub(super) async fn deploy_app(
    spec: &AppSpec,
    context: &mut Context<'_>,
) -> Result<(), ActionError> {
    let plan = planned(spec, context).await?;
    let client = client(context).await?;
    register(&plan, &client).await?;
    until_up(&plan, plan.processes.clone(), &client, context).await
}

/// Sets an app's counts, and waits until its jobs run.
pub(super) async fn scale_app(
    app: &'static str,
    counts: &[(&'static str, crate::steps::Count)],
    context: &Context<'_>,
) -> Result<(), ActionError> {
    let plan: Plan = context.record.data(app)?.ok_or(ActionError::NotRun(app))?;
    let singleton = context.options.is_singleton();
    let count = |(name, count): &(&'static str, crate::steps::Count)| {
        ((*name).to_owned(), count.per_formation(singleton))
    };
    let counts: BTreeMap<_, _> = counts.iter().map(count).collect();
    let client = client(context).await?;
    formation(&plan, counts.clone(), &client).await?;
    until_up(&plan, counts, &client, context).await
}

/// Makes a provider of resources known.
pub(super) async fn add_provider(
    name: &str,
    url: &str,
    context: &Context<'_>,
) -> Result<(), ActionError> {
    let client = client(context).await?;
    ensure_provider(name, url, &client).await.map(drop)
}

/// Adds a route to an app.
pub(super) async fn add_route(spec: &RouteSpec, context: &Context<'_>) -> Result<(), ActionError> {
    let plan: Plan = context.record.data(spec.app)?.ok_or(ActionError::NotRun(spec.app))?;
    let client = client(context).await?;
    let domain = context.resolve(&spec.domain)?;
    let adding = || call(format!("adding the route of {domain}"));
    let mut route = Route::http(&domain, spec.service);
    route.drain_backends = spec.drain_backends;
    match client.create_route(&plan.app.name, &route).await {
        Err(error) if !is_there(&error) => Err(adding()(error)),
        _ => Ok(()),
    }
}

/// What later steps use.
#[derive(Serialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

/// Makes an image known that jobs of others run in. A second run gets the same artifact.
pub(super) async fn create_artifact(
    name: &str,
    context: &mut Context<'_>,
) -> Result<(), ActionError> {
    let client = client(context).await?;
    let mut artifact = image(name, context.hosts).await?;
    artifact.meta.insert(META_SYSTEM_IMAGE.to_owned(), "true".to_owned());
    let telling = || call(format!("telling the controller of image {name}"));
    let known = client.create_artifact(&artifact).await.map_err(telling())?;
    let id = known.id.ok_or(ActionError::NotRun("artifact"))?.to_string();
    Ok(context.record.keep(context.step, &Created { id })?)
}

/// A client of the controller with the key an earlier step made.
async fn client(context: &Context<'_>) -> Result<Client, ActionError> {
    let key = context.record.field("controller-key", "Data");
    let key = key.ok_or(ActionError::NotRun("controller-key"))?.to_owned();
    let http = context
        .http_with(CONTROLLER, |builder| builder.key(key).retry_for(Duration::from_secs(30)));
    Ok(Client::from_http(http.await.map_err(call("reaching the controller"))?))
}

/// Artifacts, app, release, resources, formation, current release: in the order they need each other.
async fn register(plan: &Plan, client: &Client) -> Result<(), ActionError> {
    let name = &plan.app.name;
    let telling = |what: &str| call(format!("telling the controller of the {what} of {name}"));
    let mut release = plan.release.clone();
    release.artifacts.clear();
    for artifact in &plan.artifacts {
        // Apps of one image share the first one's artifact.
        let known = client.create_artifact(artifact).await.map_err(telling("image"))?;
        release.artifacts.extend(known.id);
    }
    accepted(client.create_app(&plan.app).await).map_err(telling("app"))?;
    accepted(client.create_release(&release).await).map_err(telling("release"))?;
    for (provider, resource) in &plan.resources {
        let known = ensure_provider(&provider.name, &provider.url, client).await?;
        let resource = Resource {
            provider: Some(known),
            apps: plan.app.id.iter().cloned().collect(),
            ..resource.clone()
        };
        let put = client.put_resource(&provider.name, &resource).await;
        accepted(put).map_err(telling("resource"))?;
    }
    formation(plan, plan.processes.clone(), client).await?;
    let release = plan.release.id.as_ref().ok_or(ActionError::NotRun("release"))?;
    client.set_app_release(name, release).await.map_err(telling("release"))?;
    Ok(())
}

async fn formation(
    plan: &Plan,
    counts: BTreeMap<String, u32>,
    client: &Client,
) -> Result<(), ActionError> {
    let release = plan.release.id.as_ref().ok_or(ActionError::NotRun("release"))?;
    let formation = Formation { processes: Some(counts), ..Formation::default() };
    let put = client.put_formation(&plan.app.name, release, &formation).await;
    put.map(drop).map_err(call(format!("scaling {}", plan.app.name)))
}

async fn ensure_provider(
    name: &str,
    url: &str,
    client: &Client,
) -> Result<ProviderId, ActionError> {
    let asking = || call(format!("adding provider {name}"));
    let all = client.providers().await.map_err(asking())?;
    if let Some(id) = all.into_iter().find(|known| known.name == name).and_then(|found| found.id) {
        return Ok(id);
    }
    let provider = Provider { name: name.to_owned(), url: url.to_owned(), ..Provider::default() };
    let made = client.create_provider(&provider).await.map_err(asking())?;
    made.id.ok_or(ActionError::NotRun("provider"))
}

/// Waits until as many jobs of each type are up as wanted; a formation's count of types that run on every
/// host is per host.
async fn until_up(
    plan: &Plan,
    counts: BTreeMap<String, u32>,
    client: &Client,
    context: &Context<'_>,
) -> Result<(), ActionError> {
    let within = context.options.wait_timeout;
    let give_up = Instant::now() + within;
    let app = &plan.app.name;
    let hosts = u32::try_from(context.hosts.len()).unwrap_or(u32::MAX);
    let per_host = |name: &str| plan.release.processes.get(name).is_some_and(|kind| kind.omni);
    let counts: BTreeMap<_, _> = counts
        .into_iter()
        .map(|(name, count)| {
            let wanted = if per_host(&name) { count.saturating_mul(hosts) } else { count };
            (name, wanted)
        })
        .collect();
    loop {
        let jobs = client.jobs(app).await.map_err(call(format!("listing the jobs of {app}")))?;
        let up = |name: &str| {
            let is_up = |job: &&controller_api::Job| {
                job.process_type == name && job.state == Some(JobState::Up)
            };
            u32::try_from(jobs.iter().filter(is_up).count()).unwrap_or(u32::MAX)
        };
        let missing: Vec<_> = counts
            .iter()
            .filter(|(name, count)| up(name) < **count)
            .map(|(name, _)| name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() + PAUSE >= give_up {
            let what = format!("jobs of {app}: {missing:?}");
            let last = jobs.iter().filter_map(|job| job.host_error.clone()).next_back();
            let last = last.unwrap_or_else(|| format!("{} jobs are known", jobs.len()));
            return Err(ActionError::TimedOut { what, seconds: within.as_secs(), last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A call whose object was there already succeeded before.
fn accepted<T>(result: Result<T, ClientError>) -> Result<(), ClientError> {
    match result {
        Err(error) if !is_there(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_there(error: &ClientError) -> bool {
    matches!(error.api_code(), Some(ErrorCode::ObjectExists | ErrorCode::Conflict))
}
