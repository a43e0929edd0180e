//! `flynn route`: which requests reach which of the app's processes.

mod change;
mod key_pair;

use controller_api::{Route, RouteKind};

use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::Table;

/// Manage routes
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn route\n\
    flynn route add http [-s <service>] [-c <tls-cert> -k <tls-key>] [--sticky] [--leader] [--no-leader] \
[--no-drain-backends] [--disable-keep-alives] <domain>\n\
    flynn route add tcp [-s <service>] [-p <port>] [--leader] [--no-drain-backends]\n\
    flynn route update <id> [-s <service>] [-c <tls-cert> -k <tls-key>] [--sticky] [--no-sticky] [--leader] \
[--no-leader] [--disable-keep-alives] [--enable-keep-alives]\n\
    flynn route remove <id>")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a route
    Add {
        #[command(subcommand)]
        route: change::NewRoute,
    },
    /// Change a route
    Update(change::Update),
    /// Take a route away
    Remove {
        /// As `flynn route` lists it
        id: String,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(context).await,
        Some(Action::Add { route }) => change::add(route, context).await,
        Some(Action::Update(update)) => change::update(update, context).await,
        Some(Action::Remove { id }) => {
            let (controller, app) = context.controller_and_app()?;
            controller.delete(path_of(&app, &id)?).await?;
            context.say(format!("Route {id} removed."))
        }
    }
}

async fn list(context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let routes: Vec<Route> = controller.get(Path::of(&["apps", &app, "routes"])).await?;
    let mut table = Table::with_header(&["ROUTE", "SERVICE", "ID", "STICKY", "LEADER", "PATH"]);
    for route in routes {
        let sticky = match route.kind {
            RouteKind::Http => route.sticky.to_string(),
            RouteKind::Tcp => String::new(),
        };
        let id = route.full_id().unwrap_or_default();
        table.row([shown(&route), route.service, id, sticky, route.leader.to_string(), route.path]);
    }
    context.print(&table.render())
}

/// `http:a.example`, `https:a.example`, `tcp:3000`.
fn shown(route: &Route) -> String {
    let port = if route.port == 0 { String::new() } else { format!(":{}", route.port) };
    match route.kind {
        RouteKind::Tcp => format!("tcp{port}"),
        RouteKind::Http if route.certificate.is_some() => format!("https:{}{port}", route.domain),
        RouteKind::Http => format!("http:{}{port}", route.domain),
    }
}

/// The path of a route: its id has the kind in front.
fn path_of(app: &str, id: &str) -> Result<Path, Failure> {
    match id.split_once('/') {
        Some((kind @ ("http" | "tcp"), uuid)) => Ok(Path::of(&["apps", app, "routes", kind, uuid])),
        Some(_) | None => {
            let kind = id.split('/').next().unwrap_or_default();
            Err(Failure::said(format!("Route type {kind} not supported.")))
        }
    }
}
