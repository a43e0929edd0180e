//! `flynn info`: where an app's code goes and where it answers.

use controller_api::{Release, Route, RouteKind};

use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::Table;

/// Show information about an app
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn info")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &mut Context<'_>) -> Outcome {
    let target = context.target()?;
    let controller = Controller::of(&target.cluster)?;
    let app = target.app?;
    context.say(format!("=== {app}"))?;
    let mut table = Table::new();
    let release: Option<Release> = controller.find(Path::of(&["apps", &app, "release"])).await?;
    let is_pushed = release.is_none_or(|release| release.meta.get("git").is_some_and(|git| git == "true"));
    if is_pushed && !target.cluster.git_url.is_empty() {
        table.row(["Git URL:".to_owned(), format!("{}/{app}.git", target.cluster.git_url)]);
    }
    // An app without a reachable route list still has the rest of its information.
    let routes: Vec<Route> =
        controller.get(Path::of(&["apps", &app, "routes"])).await.unwrap_or_default();
    if let Some(route) = routes.iter().find(|route| route.kind == RouteKind::Http) {
        let scheme = if route.certificate.is_some() { "https" } else { "http" };
        // A cluster on a port of its own has it in its name, and it is that of https.
        let port = target.cluster.git_host().and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
        let (scheme, port) = match port {
            Some(port) => ("https", format!(":{port}")),
            None => (scheme, String::new()),
        };
        table.row(["Web URL:".to_owned(), format!("{scheme}://{}{port}", route.domain)]);
    }
    context.print(&table.render())
}
