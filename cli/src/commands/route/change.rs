//! `flynn route add` and `flynn route update`.

use controller_api::{Route, RouteKind};

use super::{key_pair, path_of};
use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// What `route add` makes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum NewRoute {
    /// From a domain, or a path of one
    Http {
        /// The service; `<app>-web` without
        #[arg(short, long)]
        service: Option<String>,
        /// The port, when it is not the usual one
        #[arg(short, long, default_value_t = 0)]
        port: u16,
        #[command(flatten)]
        pair: key_pair::Files,
        /// Keep a browser on its backend
        #[arg(long)]
        sticky: bool,
        /// Only to the service's leader
        #[arg(long, overrides_with = "no_leader")]
        leader: bool,
        /// To all instances
        #[arg(long)]
        no_leader: bool,
        /// Do not wait for requests of a backend that goes
        #[arg(long)]
        no_drain_backends: bool,
        /// A new connection for every request
        #[arg(long)]
        disable_keep_alives: bool,
        /// DOMAIN or DOMAIN/PATH
        domain: String,
    },
    /// From a port of its own
    Tcp {
        /// The service; `<app>-web` without
        #[arg(short, long)]
        service: Option<String>,
        /// The port; a free one without
        #[arg(short, long, default_value_t = 0)]
        port: u16,
        /// Only to the service's leader
        #[arg(long)]
        leader: bool,
        /// Do not wait for connections of a backend that goes
        #[arg(long)]
        no_drain_backends: bool,
    },
}

/// Arguments of `route update`.
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    /// As `flynn route` lists it
    id: String,
    /// The service
    #[arg(short, long)]
    service: Option<String>,
    #[command(flatten)]
    pair: key_pair::Files,
    /// Keep a browser on its backend
    #[arg(long, conflicts_with = "no_sticky")]
    sticky: bool,
    /// Any backend for any request
    #[arg(long)]
    no_sticky: bool,
    /// Only to the service's leader
    #[arg(long, conflicts_with = "no_leader")]
    leader: bool,
    /// To all instances
    #[arg(long)]
    no_leader: bool,
    /// A new connection for every request
    #[arg(long, conflicts_with = "enable_keep_alives")]
    disable_keep_alives: bool,
    /// Connections are used again
    #[arg(long)]
    enable_keep_alives: bool,
}

pub(super) async fn add(new: NewRoute, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let service_or_web = |service: Option<String>| service.unwrap_or_else(|| format!("{app}-web"));
    let route = match new {
        NewRoute::Http { service, port, pair, sticky, leader, no_drain_backends, disable_keep_alives, domain, .. } => {
            let (domain, path) = match domain.split_once('/') {
                Some((domain, path)) => (domain, format!("/{path}")),
                None => (domain.as_str(), String::new()),
            };
            Route {
                port: i64::from(port),
                certificate: pair.read(context)?,
                sticky,
                leader,
                path,
                drain_backends: !no_drain_backends,
                disable_keep_alives,
                ..Route::http(domain, &service_or_web(service))
            }
        }
        NewRoute::Tcp { service, port, leader, no_drain_backends } => {
            let drain_backends = !no_drain_backends;
            Route { leader, drain_backends, ..Route::tcp(port, &service_or_web(service)) }
        }
    };
    let made: Route = controller.post(Path::of(&["apps", &app, "routes"]), &route).await?;
    let id = made.full_id().unwrap_or_default();
    match made.kind {
        RouteKind::Http => context.say(id),
        RouteKind::Tcp => context.say(format!("{id} listening on port {}", made.port)),
    }
}

pub(super) async fn update(update: Update, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut route: Route = controller.get(path_of(&app, &update.id)?).await?;
    match (&update.service, route.kind) {
        (Some(service), _) => service.clone_into(&mut route.service),
        (None, RouteKind::Tcp) => return Err(Failure::said("No service name given")),
        (None, RouteKind::Http) => {}
    }
    let switch = |now: &mut bool, on: bool, off: bool| *now = on || (*now && !off);
    switch(&mut route.sticky, update.sticky, update.no_sticky);
    switch(&mut route.leader, update.leader, update.no_leader);
    switch(&mut route.disable_keep_alives, update.disable_keep_alives, update.enable_keep_alives);
    route.certificate = update.pair.read(context)?;
    let made: Route = controller.put(path_of(&app, &update.id)?, &route).await?;
    match made.kind {
        RouteKind::Http => context.say(format!("updated {}", update.id)),
        RouteKind::Tcp => context.say(format!("{} listening on port {}", update.id, made.port)),
    }
}
