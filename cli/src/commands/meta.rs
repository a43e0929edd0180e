//! `flynn meta`: free texts on an app, some of which the platform reads.

use std::collections::BTreeMap;

use controller_api::{App, AppUpdate};

use super::key_value;
use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::Table;

/// Manage the app's metadata
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn meta\nflynn meta set <var>=<val>...\nflynn meta unset <var>...")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set keys
    Set {
        /// KEY=VALUE
        #[arg(required = true)]
        vars: Vec<String>,
    },
    /// Take keys away
    Unset {
        /// Names
        #[arg(required = true)]
        vars: Vec<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, name) = context.controller_and_app()?;
    let app: App = controller.get(Path::of(&["apps", &name])).await?;
    let mut meta: BTreeMap<String, String> = app.meta;
    match args.action {
        None => {
            let mut table = Table::with_header(&["KEY", "VALUE"]);
            for (key, value) in meta {
                table.row([key, value]);
            }
            return context.print(&table.render());
        }
        Some(Action::Set { vars }) => {
            for text in &vars {
                let pair = key_value(text).filter(|(key, _)| !key.is_empty());
                let (key, value) = pair.ok_or_else(|| Failure::said(format!("invalid var format: {text:?}")))?;
                meta.insert(key, value);
            }
        }
        Some(Action::Unset { vars }) => meta.retain(|key, _| !vars.contains(key)),
    }
    let update = AppUpdate { meta: Some(meta), ..AppUpdate::default() };
    let _: App = controller.post(Path::of(&["apps", &name, "meta"]), &update).await?;
    Ok(())
}
