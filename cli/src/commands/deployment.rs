//! `flynn deployment`: what was deployed, and how the next one proceeds.

use controller_api::{App, AppUpdate, Deployment, META_DEPLOY_BATCH_SIZE};

use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{Table, ago};

/// List deployments, or read and set how the next one proceeds
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn deployment\nflynn deployment timeout [<timeout>]\n\
    flynn deployment batch-size [<size>]")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Seconds one step may take
    Timeout {
        /// The new value
        #[arg(allow_hyphen_values = true)]
        timeout: Option<String>,
    },
    /// How many jobs are replaced at a time
    #[command(name = "batch-size")]
    BatchSize {
        /// The new value
        #[arg(allow_hyphen_values = true)]
        size: Option<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(context).await,
        Some(Action::Timeout { timeout: None }) => {
            let app = app(context).await?;
            context.say(app.deploy_timeout)
        }
        Some(Action::Timeout { timeout: Some(text) }) => {
            let deploy_timeout = Some(number("timeout", &text)?);
            update(context, AppUpdate { deploy_timeout, ..AppUpdate::default() }).await
        }
        Some(Action::BatchSize { size: None }) => {
            let app = app(context).await?;
            context.say(app.meta.get(META_DEPLOY_BATCH_SIZE).map_or("not set", String::as_str))
        }
        Some(Action::BatchSize { size: Some(text) }) => {
            let size = number("batch-size", &text)?;
            let mut meta = app(context).await?.meta;
            meta.insert(META_DEPLOY_BATCH_SIZE.to_owned(), size.to_string());
            update(context, AppUpdate { meta: Some(meta), ..AppUpdate::default() }).await
        }
    }
}

async fn list(context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let deployments: Vec<Deployment> = controller.get(Path::of(&["apps", &app, "deployments"])).await?;
    let mut table = Table::with_header(&["ID", "STATUS", "CREATED", "FINISHED"]);
    let now = chrono::Utc::now();
    for deployment in deployments {
        table.row([
            deployment.id.map(|id| id.to_string()).unwrap_or_default(),
            deployment.status.map(|status| status.to_string()).unwrap_or_default(),
            ago(deployment.created_at.map(|at| at.0), now),
            ago(deployment.finished_at.map(|at| at.0), now),
        ]);
    }
    context.print(&table.render())
}

async fn app(context: &Context<'_>) -> Result<App, Failure> {
    let (controller, app) = context.controller_and_app()?;
    controller.get(Path::of(&["apps", &app])).await
}

async fn update(context: &Context<'_>, update: AppUpdate) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let _: App = controller.post(Path::of(&["apps", &app]), &update).await?;
    Ok(())
}

fn number(what: &str, text: &str) -> Result<i32, Failure> {
    text.parse().map_err(|_| {
        Failure::said(format!("error parsing {what} {text:?}: strconv.Atoi: parsing {text:?}: invalid syntax"))
    })
}
