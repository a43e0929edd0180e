//! `flynn release show`.

use controller_api::{Artifact, Release};

use super::id_of;
use crate::commands::deploy;
use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{Table, go_time};

pub(super) async fn run(json: bool, id: Option<&str>, context: &mut Context<'_>) -> Outcome {
    // An id is enough: it needs no app.
    let (controller, release) = match id {
        Some(id) => {
            let controller = context.controller()?;
            let release: Release = controller.get(Path::of(&["releases", id])).await?;
            (controller, release)
        }
        None => {
            let (controller, app) = context.controller_and_app()?;
            let release = deploy::current(&controller, &app).await?;
            (controller, release.ok_or_else(|| Failure::said("controller: resource not found"))?)
        }
    };
    if json {
        let text = serde_json::to_string(&release).map_err(|error| Failure::said(error.to_string()))?;
        return context.say(text);
    }
    let table = table(&controller, &release).await?;
    context.print(&table.render())
}

async fn table(controller: &Controller, release: &Release) -> Result<Table, Failure> {
    let mut table = Table::new();
    table.row(["ID:".to_owned(), id_of(release)]);
    for (at, id) in release.artifacts.iter().enumerate() {
        let artifact: Artifact = controller.get(Path::of(&["artifacts", id.as_str()])).await?;
        let kind = artifact.kind.map(|kind| kind.to_string()).unwrap_or_default();
        table.row([format!("Artifact[{at}]:"), format!("{kind}+{}", artifact.uri)]);
    }
    let types: Vec<&str> = release.processes.keys().map(String::as_str).collect();
    table.row(["Process Types:".to_owned(), types.join(", ")]);
    table.row(["Created At:".to_owned(), release.created_at.map(|at| go_time(at.0)).unwrap_or_default()]);
    for (key, value) in &release.env {
        table.row([format!("ENV[{key}]"), value.clone()]);
    }
    for (key, value) in &release.meta {
        table.row([format!("META[{key}]"), value.clone()]);
    }
    Ok(table)
}
