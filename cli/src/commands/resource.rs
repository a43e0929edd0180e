//! `flynn resource`: databases and the like for an app.

use std::collections::BTreeMap;

use controller_api::{Provider, Resource, ResourceReq};

use super::deploy;
use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::Table;

/// Manage the app's resources
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn resource\nflynn resource add <provider>\n\
    flynn resource remove <provider> [<resource>]")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Have a provider make one
    Add {
        /// The provider
        provider: String,
    },
    /// Take one away, with its data
    Remove {
        /// The provider
        provider: String,
        /// Which, if the app has several
        resource: Option<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(context).await,
        Some(Action::Add { provider }) => add(&provider, context).await,
        Some(Action::Remove { provider, resource }) => remove(&provider, resource, context).await,
    }
}

async fn list(context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let resources: Vec<Resource> = controller.get(Path::of(&["apps", &app, "resources"])).await?;
    let mut names = BTreeMap::new();
    let mut table = Table::with_header(&["ID", "Provider ID", "Provider Name"]);
    for resource in resources {
        let provider = resource.provider.map(|id| id.to_string()).unwrap_or_default();
        let name = match names.get(&provider) {
            Some(name) => String::clone(name),
            None => {
                let found: Provider = controller.get(Path::of(&["providers", &provider])).await?;
                names.entry(provider.clone()).or_insert(found.name).clone()
            }
        };
        table.row([resource.id.map(|id| id.to_string()).unwrap_or_default(), provider, name]);
    }
    context.print(&table.render())
}

async fn add(provider: &str, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let request = ResourceReq { apps: vec![app.clone()], ..ResourceReq::default() };
    let resource: Resource = controller.post(Path::of(&["providers", provider, "resources"]), &request).await?;
    let mut release = deploy::current(&controller, &app).await?.unwrap_or_default();
    release.env.extend(resource.env);
    let release = deploy::create_and_deploy(&controller, &app, release).await?;
    let id = resource.id.map(|id| id.to_string()).unwrap_or_default();
    context.tell(format!("Created resource {id} and release {release}."))
}

async fn remove(provider: &str, id: Option<String>, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let id = match id {
        Some(id) => id,
        None => only_one(&controller, &app, provider).await?,
    };
    let resource: Resource = controller.delete_for(Path::of(&["providers", provider, "resources", &id])).await?;
    let mut release = deploy::current(&controller, &app).await?.unwrap_or_default();
    // A variable a person has changed since is theirs.
    release.env.retain(|key, value| resource.env.get(key) != Some(value));
    let release = deploy::create_and_deploy(&controller, &app, release).await?;
    context.tell(format!("Deleted resource {id}, created release {release}."))
}

/// The app's resource of the provider, if it has exactly one.
async fn only_one(controller: &Controller, app: &str, provider: &str) -> Result<String, Failure> {
    let found: Provider = controller.get(Path::of(&["providers", provider])).await?;
    let resources: Vec<Resource> = controller.get(Path::of(&["apps", app, "resources"])).await?;
    let mut ids = resources.into_iter().filter(|resource| resource.provider == found.id).filter_map(|it| it.id);
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id.to_string()),
        (None, _) | (Some(_), Some(_)) => {
            Err(Failure::said(format!("App has more than one resource for {provider}, specify resource ID")))
        }
    }
}
