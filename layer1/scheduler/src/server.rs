//! One scheduler of the cluster: leadership, what wakes it, its status page.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller_api::{Client, EventFilter, EventType, EventsFrom};
use discoverd_api::{Instance, Servers, ServiceConfig};
use kit_backoff::Backoff;
use kit_clock::{Clock as _, Mono, SystemClock};
use kit_http::{ClientError, Status};
use kit_ids::HostId;
use kit_tasks::{Running, Tasks};
use placement::{FormationKey, Plan, Policy};
use tokio::sync::{Notify, mpsc, watch};

use crate::cluster::{Cluster as _, HostSeen};
use crate::live::{Live, SERVICE};
use crate::round::Scheduler;

/// Changed formations waiting for the next round. A full queue loses nothing: the next round reads all.
const MAX_WAITING: usize = 256;
/// Pauses between rounds that nothing asked for.
const RESYNC: Duration = Duration::from_secs(10);
/// Pause between rounds while jobs come up.
const SOON: Duration = Duration::from_millis(250);
/// Pause between rounds while a host is silent and not lost yet.
const WATCHFUL: Duration = Duration::from_secs(2);
/// Events of one moment make one round.
const SETTLE: Duration = Duration::from_millis(20);

/// How a scheduler is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the status page listens.
    pub listen: SocketAddr,
    /// The address it is registered with, and by which it knows whether it leads.
    pub address: String,
    /// The controller.
    pub controller_url: String,
    /// The controller's key.
    pub controller_key: String,
    /// discoverd.
    pub discoverd: Servers,
    /// How long a host may be silent before its jobs are started elsewhere.
    pub lost_after: Duration,
    /// What the status page calls this build.
    pub version: String,
}

/// Why a scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its port is taken.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The controller's URL or key cannot be used.
    #[error("cannot use the controller {url}")]
    Controller {
        /// Its URL.
        url: String,
        /// Why.
        source: Box<ClientError>,
    },
    /// discoverd's addresses cannot be used.
    #[error("cannot use discoverd")]
    Discoverd(#[source] Box<discoverd_api::DiscoverdError>),
}

/// What the status page tells.
#[derive(Clone, Debug, Default)]
struct Report {
    leads: bool,
    last_error: Option<String>,
    unplaced: Vec<String>,
}

type Shared<T> = Arc<Mutex<T>>;

/// Starts a scheduler. It listens at once; controller and discoverd may come later.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let node = tasks.child("scheduler");
    let discoverd = discoverd_api::Client::new(&config.discoverd)
        .map_err(|error| StartError::Discoverd(Box::new(error)))?;
    let controller = controller_client(&config, &discoverd)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { addr: config.listen, source })?;
    let report = Shared::<Report>::default();
    let running = kit_http::serve(&node, listener, status_page(&config.version, report.clone()))
        .map_err(|source| StartError::Listen { addr: config.listen, source })?;

    let live = Arc::new(Live::new(controller, discoverd.clone(), node.clone()));
    let wake = Arc::new(Notify::new());
    let (changed, changes) = mpsc::channel(MAX_WAITING);
    let (leads, leading) = watch::channel(false);
    node.spawn_until_stop(
        "leadership",
        follow_leader(discoverd.clone(), config.address.clone(), leads, wake.clone()),
    );
    node.spawn_until_stop(
        "formations",
        follow_formations(live.controller.clone(), changed, wake.clone()),
    );
    node.spawn_until_stop("hosts", follow_hosts(live.clone(), wake.clone()));
    let policy = Policy { lost_after: config.lost_after, ..Policy::default() };
    let scheduler = Scheduler::new(live, policy);
    let own_tasks = node.clone();
    node.spawn("rounds", async move {
        let registration = discoverd.announce(
            &own_tasks,
            SERVICE,
            ServiceConfig::default(),
            Instance::new("tcp", &config.address),
        );
        tokio::select! {
            () = own_tasks.stopping() => {}
            () = rounds(scheduler, changes, leading, wake, report) => {}
        }
        // Another scheduler leads at once instead of after the lease.
        registration.close().await;
    });
    Ok(Running { addrs: running.addrs, tasks: node })
}

/// Rounds repeat what failed, so single calls do not.
fn controller_client(
    config: &Config,
    discoverd: &discoverd_api::Client,
) -> Result<Client, StartError> {
    let resolver = Arc::new(discoverd_api::DiscoverdResolver::new(discoverd.clone()));
    let http = kit_http::Client::builder(&config.controller_url)
        .key(&config.controller_key)
        .resolver(resolver)
        .build();
    let bad = |source| StartError::Controller {
        url: config.controller_url.clone(),
        source: Box::new(source),
    };
    Ok(Client::from_http(http.map_err(bad)?))
}

fn status_page(version: &str, report: Shared<Report>) -> axum::Router {
    kit_http::status_router(version, move || {
        let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            let detail = serde_json::json!({
                "leads": report.leads, "error": report.last_error, "unplaced": report.unplaced,
            });
            // A scheduler that waits for the controller is well; it says what it waits for.
            Status::healthy().with_detail(detail)
        }
    })
}

async fn follow_leader(
    discoverd: discoverd_api::Client,
    own: String,
    leads: watch::Sender<bool>,
    wake: Arc<Notify>,
) {
    let mut leaders = discoverd.leaders(SERVICE);
    loop {
        // That nobody leads for a moment is no reason to stop: two leaders do no harm, none does.
        if let Some(leader) = leaders.next().await {
            let is_own = leader.addr == own;
            if leads.send_replace(is_own) != is_own {
                tracing::info!(leads = is_own, leader = %leader.addr, "leadership changed");
            }
            wake.notify_one();
        }
    }
}

/// A scale request wakes the rounds and names the formation to look at.
async fn follow_formations(
    controller: Client,
    changed: mpsc::Sender<FormationKey>,
    wake: Arc<Notify>,
) {
    let filter = EventFilter::default().types(&[EventType::ScaleRequest, EventType::Scale]);
    let (mut from, mut pause) = (EventsFrom::Now, backoff());
    loop {
        if let Ok(mut stream) = controller.stream_events(&filter, from).await {
            pause.reset();
            wake.notify_one();
            while let Some(Ok(event)) = stream.next_event().await {
                let told: controller_api::ScaleRequest = event.data_as().unwrap_or_default();
                if let (Some(app), Some(release)) = (event.app.clone(), told.release) {
                    // A full queue is no loss: the round that is due reads everything.
                    let _ = changed.try_send(FormationKey { app, release });
                }
                wake.notify_one();
            }
            from = stream.resume_from();
        }
        tokio::time::sleep(pause.next_delay()).await;
    }
}

/// Every host's job events wake the rounds; so does a host that comes, goes or changes.
async fn follow_hosts(live: Arc<Live>, wake: Arc<Notify>) {
    let mut watch = live.discoverd.watch("flynn-host");
    let node = live.tasks.child("host-events");
    let mut followed = std::collections::BTreeSet::<(HostId, String)>::new();
    loop {
        watch.next().await;
        wake.notify_one();
        for seen in live.hosts().await.unwrap_or_default() {
            if followed.insert((seen.id.clone(), seen.url.clone())) {
                node.spawn_until_stop("host", follow_host(live.clone(), seen, wake.clone()));
            }
        }
    }
}

async fn follow_host(live: Arc<Live>, seen: HostSeen, wake: Arc<Notify>) {
    let mut pause = backoff();
    loop {
        if let Ok(client) = live.host(&seen)
            && let Ok(mut events) = client.events(None).await
        {
            pause.reset();
            wake.notify_one();
            while let Some(Ok(_)) = events.next_event().await {
                wake.notify_one();
            }
        }
        wake.notify_one();
        tokio::time::sleep(pause.next_delay()).await;
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(10), rand::random())
}

async fn rounds(
    mut scheduler: Scheduler<Live>,
    mut changes: mpsc::Receiver<FormationKey>,
    mut leading: watch::Receiver<bool>,
    wake: Arc<Notify>,
    report: Shared<Report>,
) {
    let clock = SystemClock::start();
    let mut pause = backoff();
    loop {
        report.lock().unwrap_or_else(PoisonError::into_inner).leads = *leading.borrow_and_update();
        if !*leading.borrow() {
            scheduler.begin_anew();
            wake.notified().await;
            continue;
        }
        while let Ok(key) = changes.try_recv() {
            scheduler.watch(key);
        }
        let round = tokio::select! {
            round = scheduler.round(clock.mono(), clock.wall()) => round,
            // Whoever leads no longer stops in the middle. What it has recorded the next one finishes.
            () = leads_no_longer(&mut leading) => continue,
        };
        let wait = match round {
            Ok(plan) => {
                pause.reset();
                note(&report, &plan);
                let wait = until_next(&plan, clock.mono());
                // Nobody tells of a service that a job has come up in, nor of a host's silence.
                let wait = if scheduler.awaits_jobs() { wait.min(SOON) } else { wait };
                if scheduler.awaits_hosts() { wait.min(WATCHFUL) } else { wait }
            }
            Err(error) => {
                tracing::warn!(%error, "round not possible, trying again");
                report.lock().unwrap_or_else(PoisonError::into_inner).last_error =
                    Some(error.to_string());
                pause.next_delay()
            }
        };
        let _ = tokio::time::timeout(wait, wake.notified()).await;
        tokio::time::sleep(SETTLE).await;
    }
}

async fn leads_no_longer(leading: &mut watch::Receiver<bool>) {
    if leading.wait_for(|leads| !leads).await.is_err() {
        // Nobody will tell any more: the process ends.
        std::future::pending::<()>().await;
    }
}

fn note(report: &Shared<Report>, plan: &Plan) {
    let unplaced = plan
        .unplaced
        .iter()
        .map(|it| format!("{} {} of {}: {}", it.count, it.process, it.formation.app, it.reason));
    let held =
        plan.held.iter().map(|held| format!("{} of {}: {held}", held.process, held.formation.app));
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.last_error = None;
    report.unplaced = unplaced.chain(held).collect();
}

/// Soon when something was done or falls due, else after a jittered while.
fn until_next(plan: &Plan, now: Mono) -> Duration {
    if !plan.steps.is_empty() {
        return Duration::from_millis(500);
    }
    let resync = RESYNC.mul_f64(rand::random_range(0.75..1.25));
    plan.next_due().map_or(resync, |due| now.until(due).min(resync))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_listens_and_waits_while_everything_else_is_away() {
        // A port that was free a moment ago and that nobody listens on.
        let away =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "127.0.0.1:1".to_owned(),
            controller_url: format!("http://{away}"),
            controller_key: "key".to_owned(),
            discoverd: Servers::parse(&format!("http://{away}")),
            lost_after: Duration::from_secs(60),
            version: "dev".to_owned(),
        };
        let tasks = Tasks::root("test");
        let running = start(config, &tasks).await.unwrap();
        let client = kit_http::Client::new(&format!("http://{}", running.addr())).unwrap();
        let status: kit_http::StatusBody = client.get_json(kit_http::STATUS_PATH).await.unwrap();
        assert_eq!(status.data.status, kit_http::Health::Healthy);
        assert_eq!(status.data.detail.unwrap()["leads"], false);
        running.stop(Duration::from_secs(30)).await;
    }
}
