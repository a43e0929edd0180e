//! The platform: services, leases, database, controller, and what the controller wants. Each part may be
//! away without keeping the others from being asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use controller_api::{ExpandedFormation, JobState};
use discoverd_api::{Instance, ServiceMeta};
use futures_util::StreamExt as _;
use kit_http::{Client, ClientError, Health, Request, STATUS_PATH, StatusBody};
use router_api::{Route, RouteKind};

use super::{ANSWER, AT_ONCE, CONNECT, brief, chain};
use crate::doctor::facts::{Facts, RouteFacts, Seen, Waiting, Wanted};

/// Without an instance of these something does not work.
const NEEDED: [&str; 2] = ["controller-scheduler", "router-api"];
const CONTROLLER: &str = "controller";
const DATABASE: &str = "postgres";
const OVERLAY: &str = "flannel";
/// More routes are not looked at: each costs a look-up of its name.
const ROUTES: usize = 500;
/// What a wildcard's name is asked with.
const SOME_NAME: &str = "flynn-doctor";

/// Adds what discoverd and, with the key, the controller say. Without a discoverd nothing is added.
pub(super) async fn add(
    facts: &mut Facts,
    registry: &Result<Client, ClientError>,
    key: Option<String>,
) {
    let Ok(registry) = registry else { return };
    let (leases, services, controllers, database) = tokio::join!(
        leases(registry),
        services(registry),
        instances(registry, CONTROLLER),
        leader(registry, DATABASE),
    );
    facts.discovery.leases = leases;
    facts.platform.services = services;
    if let Some(database) = database.filter(|found| found.is_some() || runs_ever(facts, DATABASE)) {
        facts.platform.database = database_seen(database).await;
    }
    let Some(controllers) = controllers else { return };
    if controllers.is_empty() && !runs_ever(facts, CONTROLLER) {
        return;
    }
    let mut last = "no controller is registered".to_owned();
    for instance in &controllers {
        match ask_controller(instance, key.as_deref()).await {
            Ok(answer) => return add_answer(facts, registry, answer).await,
            Err(reason) => last = reason,
        }
    }
    facts.platform.controller = Seen::Unwell(last);
}

/// Whether any host knows a job of the app, ended or not.
fn runs_ever(facts: &Facts, app: &str) -> bool {
    facts.answering().any(|(host, _)| facts.job_of(host.ip, app).is_some())
}

async fn instances(registry: &Client, service: &str) -> Option<Vec<Instance>> {
    match registry.get_json(&format!("/services/{service}/instances")).await {
        Ok(found) => Some(found),
        Err(error) => error.is_not_found().then(Vec::new),
    }
}

/// The outer None: discoverd could not say.
async fn leader(registry: &Client, service: &str) -> Option<Option<Instance>> {
    match registry.get_json(&format!("/services/{service}/leader")).await {
        Ok(found) => Some(Some(found)),
        Err(error) => error.is_not_found().then_some(None),
    }
}

async fn services(registry: &Client) -> Option<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for service in NEEDED {
        counts.insert(service.to_owned(), instances(registry, service).await?.len());
    }
    Some(counts)
}

/// The hosts that have a subnet, as the overlay writes them down.
async fn leases(registry: &Client) -> Option<BTreeSet<Ipv4Addr>> {
    let meta = registry.get_json::<ServiceMeta>(&format!("/services/{OVERLAY}/meta")).await;
    let meta = match meta {
        Ok(meta) => meta.parse::<serde_json::Value>().ok()?,
        Err(error) => return error.is_not_found().then(BTreeSet::new),
    };
    let subnets = meta.get("subnets").and_then(serde_json::Value::as_object);
    let ips =
        subnets.into_iter().flatten().filter_map(|(_, lease)| lease.get("PublicIP")?.as_str());
    Some(ips.filter_map(|ip| ip.parse().ok()).collect())
}

/// Its status is answered one port above the database.
async fn database_seen(leader: Option<Instance>) -> Seen {
    let Some(leader) = leader else { return Seen::Unwell("no server is registered".to_owned()) };
    let (Some(host), Some(port)) = (leader.host(), leader.port()) else {
        return Seen::Unwell(format!("{} is no address", leader.addr));
    };
    match brief(&format!("http://{host}:{}", port.saturating_add(1))) {
        Ok(client) => status(&client).await,
        Err(error) => Seen::Unwell(chain(&error)),
    }
}

async fn status(client: &Client) -> Seen {
    let answer = async { client.send_raw(Request::get(STATUS_PATH)).await?.json().await };
    match answer.await {
        Ok(StatusBody { data }) => match (data.status, data.detail) {
            (Health::Healthy, _) => Seen::Well,
            (Health::Unhealthy, Some(detail)) => Seen::Unwell(detail.to_string()),
            (Health::Unhealthy, None) => Seen::Unwell("it says that it is not well".to_owned()),
        },
        Err(error) => Seen::Unwell(chain(&error)),
    }
}

/// What a controller said.
struct Answer {
    seen: Seen,
    formations: Option<Vec<ExpandedFormation>>,
    jobs: Vec<controller_api::Job>,
    routes: Vec<Route>,
    apps: Vec<controller_api::App>,
}

/// Asks one controller; the error says why it does not answer at all.
async fn ask_controller(instance: &Instance, key: Option<&str>) -> Result<Answer, String> {
    let builder = Client::builder(&format!("http://{}", instance.addr));
    let builder = builder.connect_timeout(CONNECT).request_timeout(ANSWER);
    let builder = key.into_iter().fold(builder, |builder, key| builder.key(key));
    let client = builder.build().map_err(|error| chain(&error))?;
    let controller = controller_api::Client::from_http(client.clone());
    controller.ping().await.map_err(|error| chain(&error))?;
    let (seen, formations, jobs, routes, apps) = tokio::join!(
        status(&client),
        controller.active_formations(),
        controller.active_jobs(),
        controller.routes(),
        controller.apps(),
    );
    Ok(Answer {
        seen,
        formations: formations.ok(),
        jobs: jobs.unwrap_or_default(),
        routes: routes.unwrap_or_default(),
        apps: apps.unwrap_or_default(),
    })
}

async fn add_answer(facts: &mut Facts, registry: &Client, answer: Answer) {
    let Answer { seen, formations, jobs, routes, apps } = answer;
    let names: BTreeMap<_, _> =
        apps.into_iter().filter_map(|app| Some((app.id?.to_string(), app.name))).collect();
    facts.platform.controller = seen;
    facts.platform.wanted = formations.map(|formations| wanted(&formations));
    facts.platform.waiting = jobs.iter().filter_map(|job| waiting(job, &names)).collect();
    let http = routes.into_iter().filter(|route| route.kind == RouteKind::Http).take(ROUTES);
    let all = facts.platform.wanted.as_deref().unwrap_or_default();
    let routes = futures_util::stream::iter(http)
        .map(|route| route_facts(registry, route, &names, all))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let mut routes = routes.await;
    routes.sort_by(|one, other| one.domain.cmp(&other.domain));
    facts.platform.routes = routes;
}

/// Counts of an app's releases together: while it is deployed there are two.
fn wanted(formations: &[ExpandedFormation]) -> Vec<Wanted> {
    let mut all: BTreeMap<(String, String), Wanted> = BTreeMap::new();
    for formation in formations {
        let Some(app) = &formation.app else { continue };
        for (process, count) in &formation.processes {
            let release = formation.release.as_ref();
            let spec = release.and_then(|release| release.processes.get(process));
            let of_type = all.entry((app.name.clone(), process.clone())).or_default();
            of_type.count += *count as usize;
            of_type.app.clone_from(&app.name);
            of_type.process.clone_from(process);
            of_type.system = app.is_system();
            of_type.on_every_host |= spec.is_some_and(|spec| spec.omni);
            of_type.tagged |= formation.tags.get(process).is_some_and(|tags| !tags.is_empty());
        }
    }
    all.into_values().collect()
}

fn waiting(job: &controller_api::Job, names: &BTreeMap<String, String>) -> Option<Waiting> {
    let reason = job.host_error.clone().filter(|reason| !reason.is_empty())?;
    if job.state != Some(JobState::Pending) {
        return None;
    }
    let app = job.app.as_ref()?.to_string();
    let app = names.get(&app).cloned().unwrap_or(app);
    Some(Waiting { app, process: job.process_type.clone(), reason })
}

async fn route_facts(
    registry: &Client,
    route: Route,
    names: &BTreeMap<String, String>,
    wanted: &[Wanted],
) -> RouteFacts {
    let app = route.parent_ref.rsplit('/').next().and_then(|id| names.get(id));
    let app = app.cloned().unwrap_or_default();
    let of_app = wanted.iter().filter(|wanted| wanted.app == app);
    let wanted = of_app.map(|wanted| wanted.count).sum();
    let (backends, addresses) =
        tokio::join!(instances(registry, &route.service), addresses(&route.domain));
    let backends = backends.map(|found| found.len());
    RouteFacts { domain: route.domain, app, backends, wanted, addresses }
}

/// Where a name leads. Names below `.localhost` are loopback by definition (RFC 6761), `*` is no name.
async fn addresses(domain: &str) -> Option<Vec<IpAddr>> {
    let name = match domain.strip_prefix("*.") {
        Some(rest) => format!("{SOME_NAME}.{rest}"),
        None if domain == "*" => return None,
        None => domain.to_owned(),
    };
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
    let found = tokio::time::timeout(ANSWER, tokio::net::lookup_host((name.as_str(), 80))).await;
    match found {
        Ok(Ok(found)) => Some(found.map(|addr: SocketAddr| addr.ip()).collect()),
        Ok(Err(_)) => Some(Vec::new()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_below_localhost_and_the_catch_all_need_no_look_up() {
        let loopback = Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(addresses("hello.flynn.localhost").await, loopback);
        assert_eq!(addresses("*.flynn.localhost").await, loopback);
        assert_eq!(addresses("*").await, None);
    }
}
