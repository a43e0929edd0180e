//! `flynn remote`: git remotes for an app that is there already.

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Manage git remotes
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn remote add [<remote>] [-y]")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a git remote for the app
    Add {
        /// Its name
        #[arg(default_value = "flynn")]
        remote: String,
        /// Replace a remote of that name without asking
        #[arg(short, long)]
        yes: bool,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let Action::Add { remote, yes } = args.action;
    let git = context.environment.git();
    if !git.in_repository() {
        return context.tell("Must be executed within a git repository.");
    }
    let target = context.target()?;
    let app = target.app?;
    if target.cluster.git_url.is_empty() {
        let name = target.cluster.name;
        return Err(Failure::said(format!("cluster {name:?} was added without git: add it again without --no-git")));
    }
    if !yes && git.remote_url(&remote).is_some() {
        context.say(format!("There is already a git remote called {remote}"))?;
        if !context.confirm("Are you sure you want to replace it?")? {
            return Ok(());
        }
    }
    let url = format!("{}/{app}.git", target.cluster.git_url);
    git.set_remote(&remote, &url)?;
    context.tell(format!("Created remote {remote} with url {url}."))
}
