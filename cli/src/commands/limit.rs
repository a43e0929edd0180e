//! `flynn limit`: what one job of a process type may use.

use controller_api::Resources;
use host_api::ResourceKind;

use super::deploy;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{Table, parse_binary_size, parse_decimal_size, show_size};

/// Manage resource limits
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn limit [-t <proc>]\nflynn limit set <proc> <var>=<val>...")]
pub(crate) struct Args {
    /// The process type
    #[arg(short = 't', long)]
    process_type: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set limits: memory and temp_disk as 512MB or 1GB, cpu in thousandths of a core, max_fd
    Set {
        /// The process type
        process_type: String,
        /// KEY=VALUE
        #[arg(required = true)]
        limits: Vec<String>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    match args.action {
        None => list(args.process_type.as_deref(), context).await,
        Some(Action::Set { process_type, limits }) => set(&process_type, &limits, context).await,
    }
}

async fn list(process_type: Option<&str>, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let Some(release) = deploy::current(&controller, &app).await? else {
        return Ok(());
    };
    if let Some(name) = process_type.filter(|name| !release.processes.contains_key(*name)) {
        return Err(Failure::said(format!("unknown process type {name:?}")));
    }
    let mut table = Table::new();
    for (name, process) in &release.processes {
        if process_type.is_none_or(|wanted| wanted == name) {
            table.row(row(name, &process.resources));
        }
    }
    context.print(&table.render())
}

/// `web:`, then one cell for each kind with a limit, by name.
fn row(name: &str, resources: &Resources) -> Vec<String> {
    let mut cells: Vec<String> = resources
        .0
        .iter()
        .filter_map(|(kind, resource)| resource.limit.map(|limit| format!("{kind}={}", shown(kind, limit))))
        .collect();
    cells.sort();
    if cells.is_empty() {
        cells.push(String::new());
    }
    cells.insert(0, format!("{name}:"));
    cells
}

fn shown(kind: &str, limit: i64) -> String {
    match kind {
        "memory" | "temp_disk" => show_size(limit),
        _ => limit.to_string(),
    }
}

async fn set(process_type: &str, limits: &[String], context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut release = deploy::current(&controller, &app).await?.unwrap_or_default();
    if !release.processes.contains_key(process_type) && process_type != "slugbuilder" {
        context.tell(format!("Warning: {process_type:?} is not an existing process type, setting anyway"))?;
    }
    let process = release.processes.entry(process_type.to_owned()).or_default();
    if process.resources.0.is_empty() {
        process.resources = defaults();
    }
    for text in limits {
        let (kind, limit) = parse(text)?;
        process.resources.set(kind, Some(limit), Some(limit));
    }
    let id = deploy::create_and_deploy(&controller, &app, release).await?;
    context.say(format!("Created release {id}"))
}

/// What a job gets when nobody says anything.
pub(super) fn defaults() -> Resources {
    let mut resources = Resources::default();
    let defaults = [
        (ResourceKind::Memory, 1 << 30),
        (ResourceKind::Cpu, 1000),
        (ResourceKind::TempDisk, 100 << 20),
        (ResourceKind::MaxFd, 10_000),
    ];
    for (kind, value) in defaults {
        resources.set(kind, Some(value), Some(value));
    }
    resources
}

/// `memory=512MB`.
pub(super) fn parse(text: &str) -> Result<(ResourceKind, i64), Failure> {
    let Some((kind, value)) = text.split_once('=') else {
        return Err(Failure::said(format!("invalid resource limit: {text:?}")));
    };
    let (kind, limit) = match kind {
        "memory" => (ResourceKind::Memory, parse_binary_size(value)),
        "temp_disk" => (ResourceKind::TempDisk, parse_binary_size(value)),
        "cpu" => (ResourceKind::Cpu, parse_decimal_size(value)),
        "max_fd" => (ResourceKind::MaxFd, parse_decimal_size(value)),
        _ => return Err(Failure::said(format!("invalid resource limit type: [{kind:?} {value:?}]"))),
    };
    let limit = limit.ok_or_else(|| Failure::said(format!("invalid resource limit value: {value:?}")))?;
    Ok((kind, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_or_refused_with_the_words_of_old() {
        assert_eq!(parse("memory=512MB").unwrap(), (ResourceKind::Memory, 512 << 20));
        assert_eq!(parse("max_fd=12k").unwrap(), (ResourceKind::MaxFd, 12_000));
        for (text, want) in [
            ("x=1", "invalid resource limit type: [\"x\" \"1\"]"),
            ("memory", "invalid resource limit: \"memory\""),
            ("memory=zz", "invalid resource limit value: \"zz\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn only_limits_are_listed_by_name() {
        assert_eq!(row("web", &defaults()), ["web:", "cpu=1000", "max_fd=10000", "memory=1GB", "temp_disk=100MB"]);
        assert_eq!(row("worker", &Resources::default()), ["worker:", ""]);
    }
}
