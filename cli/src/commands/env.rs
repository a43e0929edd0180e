//! `flynn env`: the environment of the app's processes. Every change is a new release.

use std::collections::BTreeMap;

use controller_api::Release;

use super::deploy;
use super::key_value;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Manage the app's environment variables
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn env [-t <proc>]\n\
    flynn env set [-t <proc>] <var>=<val>...\n\
    flynn env unset [-t <proc>] <var>...\n\
    flynn env get [-t <proc>] <var>")]
pub(crate) struct Args {
    /// The process type; without it, all of them
    #[arg(short = 't', long, global = true)]
    process_type: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set variables
    Set {
        /// KEY=VALUE
        #[arg(required = true)]
        vars: Vec<String>,
    },
    /// Take variables away
    Unset {
        /// Names
        #[arg(required = true)]
        vars: Vec<String>,
    },
    /// Print one variable's value
    Get {
        /// Its name
        var: String,
    },
}

type Vars = BTreeMap<String, String>;

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let process_type = args.process_type.as_deref();
    match args.action {
        None => list(process_type, context).await,
        Some(Action::Get { var }) => get(process_type, &var, context).await,
        Some(Action::Set { vars }) => {
            let pair = |text: &String| {
                let pair = key_value(text).filter(|(key, _)| !key.is_empty());
                pair.ok_or_else(|| Failure::said(format!("invalid var format: {text:?}")))
            };
            let pairs: Vec<(String, String)> = vars.iter().map(pair).collect::<Result<_, _>>()?;
            change(process_type, context, |env| env.extend(pairs)).await
        }
        Some(Action::Unset { vars }) => {
            change(process_type, context, |env| env.retain(|key, _| !vars.contains(key))).await
        }
    }
}

async fn list(process_type: Option<&str>, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let Some(release) = deploy::current(&controller, &app).await? else {
        return Ok(());
    };
    let lines = seen_by(&release, process_type)?.into_iter().map(|(key, value)| format!("{key}={value}\n"));
    context.print(&lines.collect::<String>())
}

async fn get(process_type: Option<&str>, var: &str, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let Some(release) = deploy::current(&controller, &app).await? else {
        return Err(Failure::said("no app release found"));
    };
    match seen_by(&release, process_type)?.get(var) {
        Some(value) => context.say(value),
        None => Err(Failure::said(format!("var {var:?} not found in release {:?}", id_of(&release)))),
    }
}

/// The release's variables, those of the process type on top.
fn seen_by(release: &Release, process_type: Option<&str>) -> Result<Vars, Failure> {
    let mut vars = release.env.clone();
    if let Some(name) = process_type {
        let Some(process) = release.processes.get(name) else {
            let id = id_of(release);
            return Err(Failure::said(format!("process type {name:?} not found in release {id}")));
        };
        vars.extend(process.env.clone());
    }
    Ok(vars)
}

async fn change(
    process_type: Option<&str>,
    context: &mut Context<'_>,
    edit: impl FnOnce(&mut Vars),
) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut release = deploy::current(&controller, &app).await?.unwrap_or_default();
    let id = id_of(&release);
    match process_type {
        None => edit(&mut release.env),
        Some(name) => match release.processes.get_mut(name) {
            Some(process) => edit(&mut process.env),
            None => return Err(Failure::said(format!("process {name:?} in release {id} not found"))),
        },
    }
    let id = deploy::create_and_deploy(&controller, &app, release).await?;
    context.tell(format!("Created release {id}."))
}

fn id_of(release: &Release) -> String {
    release.id.as_ref().map(ToString::to_string).unwrap_or_default()
}
