//! All commands by name. One file is one command: its arguments and what it does.

mod deploy;
pub(crate) mod help;

use crate::arguments::{self, Answer};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Makes the closed list of commands, each with a module of the same shape:
/// `Args` (what clap reads) and `run(Args, &mut Context)`.
macro_rules! commands {
    ($($variant:ident $module:ident $name:literal $summary:literal $listed:literal;)*) => {
        $(mod $module;)*

        /// A command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Command {
            $($variant,)*
        }

        impl Command {
            /// All commands, in the order of the help.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The command of that name. None has a second name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|command| command.name() == name)
            }

            /// The word on the command line.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One line for the list of commands.
            pub(crate) fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)* }
            }

            /// Whether the list of commands shows it.
            pub(crate) fn is_listed(self) -> bool {
                match self { $(Self::$variant => $listed,)* }
            }

            /// The full help.
            pub(crate) fn help(self) -> String {
                match self { $(Self::$variant => arguments::help_of::<$module::Args>($name),)* }
            }

            /// Parses the command's own words and runs it.
            pub(crate) async fn run(self, rest: &[String], context: &mut Context<'_>) -> Outcome {
                match self {
                    $(Self::$variant => match arguments::parse::<$module::Args>($name, rest) {
                        Ok(args) => $module::run(args, context).await,
                        Err(answer) => give(context, &answer),
                    },)*
                }
            }
        }
    };
}

commands! {
    Help help_command "help" "show usage for a specific command" true;
    Cluster cluster "cluster" "manage clusters" true;
    Create create "create" "create an app" true;
    Delete delete "delete" "delete an app" true;
    Apps apps "apps" "list all apps" true;
    Info info "info" "show app information" true;
    Ps ps "ps" "list jobs" true;
    Kill kill "kill" "kill jobs" true;
    Log log "log" "get app log" true;
    Run run "run" "run a job" true;
    Scale scale "scale" "change formation" true;
    Env env "env" "manage env variables" true;
    Limit limit "limit" "manage resource limits" true;
    Meta meta "meta" "manage app metadata" true;
    Route route "route" "manage routes" true;
    Provider provider "provider" "manage resource providers" true;
    Remote remote "remote" "manage git remotes" true;
    Resource resource "resource" "provision a new resource" true;
    Pg pg "pg" "manage a postgres database" true;
    Release release "release" "manage app releases" true;
    Deployment deployment "deployment" "list deployments" true;
    Version version "version" "show flynn version" true;
    GitCredentials git_credentials "git-credentials" "answer git's question for a key" false;
}

fn give(context: &mut Context<'_>, answer: &Answer) -> Outcome {
    context.print(&answer.text)?;
    if answer.status == 0 { Ok(()) } else { Err(Failure::Status(answer.status)) }
}

/// `KEY=VALUE`.
fn key_value(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}
