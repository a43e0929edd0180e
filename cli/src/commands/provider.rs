//! `flynn provider`: who makes databases and the like.

use controller_api::Provider;

use crate::connection::Path;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::Table;

/// Manage resource providers
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn provider\nflynn provider add <name> <url>")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a provider known
    Add {
        /// Its name
        name: String,
        /// Where resources are asked for
        url: String,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let controller = context.controller()?;
    if let Some(Action::Add { name, url }) = args.action {
        let new = Provider { name, url, ..Provider::default() };
        let made: Provider = controller.post(Path::of(&["providers"]), &new).await?;
        return context.tell(format!("Created provider {}.", made.name));
    }
    let providers: Vec<Provider> = controller.get(Path::of(&["providers"])).await?;
    if providers.is_empty() {
        return Ok(());
    }
    let mut table = Table::with_header(&["ID", "NAME", "URL"]);
    for provider in providers {
        table.row([provider.id.map(|id| id.to_string()).unwrap_or_default(), provider.name, provider.url]);
    }
    context.print(&table.render())
}
