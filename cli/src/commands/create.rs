//! `flynn create`: a new app, and a git remote for it.

use controller_api::App;
use serde::Serialize;

use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::Outcome;

/// Create an app; without a name the controller chooses one
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn create [-r <remote>] [-y] [<name>]")]
pub(crate) struct Args {
    /// Name of the git remote to make; empty for none
    #[arg(short, long, default_value = "flynn")]
    remote: String,
    /// Replace a git remote of that name without asking
    #[arg(short, long)]
    yes: bool,
    /// Name of the app
    name: Option<String>,
}

#[derive(Serialize)]
struct NewApp {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    meta: Option<()>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let cluster = context.target()?.cluster;
    let controller = Controller::of(&cluster)?;
    let git = context.environment.git();
    let wants_remote = !args.remote.is_empty() && git.in_repository();
    if wants_remote && !args.yes && git.remote_url(&args.remote).is_some() {
        context.say(format!("There is already a git remote called {}", args.remote))?;
        if !context.confirm("Are you sure you want to replace it?")? {
            return context.tell("App not created: choose another remote with -r, or none with -r ''");
        }
    }
    let app: App = controller.post(Path::of(&["apps"]), &NewApp { name: args.name, meta: None }).await?;
    if wants_remote && !cluster.git_url.is_empty() {
        git.set_remote(&args.remote, &format!("{}/{}.git", cluster.git_url, app.name))?;
    }
    context.tell(format!("Created {}", app.name))
}
