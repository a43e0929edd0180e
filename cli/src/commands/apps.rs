//! `flynn apps`: all apps, those of the platform too.

use controller_api::App;

use crate::connection::Path;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::Table;

/// List all apps
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn apps")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &mut Context<'_>) -> Outcome {
    let apps: Vec<App> = context.controller()?.get(Path::of(&["apps"])).await?;
    let mut table = Table::with_header(&["ID", "NAME"]);
    for app in apps {
        table.row([app.id.map(|id| id.to_string()).unwrap_or_default(), app.name]);
    }
    context.print(&table.render())
}
