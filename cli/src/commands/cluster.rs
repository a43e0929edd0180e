//! `flynn cluster`: which clusters there are, and which one is meant when none is named.

mod add;

use crate::context::Context;
use crate::failure::Outcome;
use crate::rc::Cluster;
use crate::render::Table;

/// Manage clusters
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn cluster\n\
    flynn cluster add [-f] [-d] [--git-url <giturl>] [--no-git] [--image-url <url>] \
[--docker-push-url <url>] [-p <tlspin>] <cluster-name> <domain> <key>\n\
    flynn cluster remove <cluster-name>\n\
    flynn cluster default [<cluster-name>]")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a cluster known, and tell git about it
    Add(add::Args),
    /// Forget a cluster
    Remove {
        /// Its name
        name: String,
    },
    /// Show or set the cluster that is meant when none is named
    Default {
        /// Its name
        name: Option<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(context),
        Some(Action::Add(args)) => add::run(args, context).await,
        Some(Action::Remove { name }) => remove(&name, context),
        Some(Action::Default { name: None }) => show_default(context),
        Some(Action::Default { name: Some(name) }) => set_default(&name, context),
    }
}

fn list(context: &mut Context<'_>) -> Outcome {
    let rc = context.rc()?;
    let mut table = Table::with_header(&["NAME", "CONTROLLER URL", "GIT URL", "IMAGE URL"]);
    for cluster in &rc.clusters {
        let mut cells =
            vec![cluster.name.as_str(), or_none(&cluster.controller_url), or_none(&cluster.git_url), or_none(&cluster.image_url)];
        if cluster.name == rc.default {
            cells.push("(default)");
        }
        table.row(cells);
    }
    context.print(&table.render())
}

fn or_none(url: &str) -> &str {
    if url.is_empty() { "(none)" } else { url }
}

fn remove(name: &str, context: &mut Context<'_>) -> Outcome {
    let mut rc = context.rc()?;
    let was_default = rc.default == name;
    let Some(removed) = rc.remove(name) else { return Ok(()) };
    context.save(&rc)?;
    forget_git(&removed, context);
    if was_default && !rc.default.is_empty() {
        context.tell(format!("Cluster {name:?} removed and {:?} is now the default cluster.", rc.default))
    } else {
        context.tell(format!("Cluster {name:?} removed."))
    }
}

/// Takes away what `cluster add` told git. That it is not there is fine.
fn forget_git(cluster: &Cluster, context: &Context<'_>) {
    if cluster.git_url.is_empty() {
        return;
    }
    let git = context.environment.git();
    git.drop_global_section(&format!("http.{}", cluster.git_url));
    git.drop_global_section(&format!("credential.{}", cluster.git_url));
    if let Some(path) = context.environment.ca_path(&cluster.name) {
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(ca_folder(&path));
    }
}

/// The folder that holds the certificate of `path` and nothing else.
fn ca_folder(path: &std::path::Path) -> std::path::PathBuf {
    path.with_extension("d")
}

fn show_default(context: &mut Context<'_>) -> Outcome {
    let rc = context.rc()?;
    let mut table = Table::with_header(&["NAME", "URL"]);
    if let Some(cluster) = rc.find(&rc.default) {
        table.row([cluster.name.as_str(), cluster.controller_url.as_str(), "(default)"]);
    }
    context.print(&table.render())
}

fn set_default(name: &str, context: &mut Context<'_>) -> Outcome {
    let mut rc = context.rc()?;
    rc.set_default(name)?;
    context.save(&rc)?;
    context.tell(format!("{name:?} is now the default cluster."))
}
