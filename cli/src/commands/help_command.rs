//! `flynn help`: the list of commands, or one command's help.

use super::{Command, help};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Show usage for a specific command
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn help [--json] [<command>]")]
pub(crate) struct Args {
    /// All commands' help as one JSON object
    #[arg(long)]
    json: bool,
    /// The command
    command: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    if args.json {
        return context.print(&as_json());
    }
    let Some(name) = args.command else {
        return context.print(&format!("{}\n", help::overview()));
    };
    match Command::named(&name) {
        Some(command) => context.print(&command.help()),
        None => Err(Failure::said(format!("{name} is not a flynn command. See 'flynn help'"))),
    }
}

/// An object from name to help, indented with tabs.
fn as_json() -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let entries: Vec<String> = Command::ALL
        .iter()
        .filter(|command| command.is_listed())
        .map(|command| format!("\t{}: {}", quoted(command.name()), quoted(&command.help())))
        .collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}
