//! `flynn pg`: PostgreSQL's own tools, run beside the database in a job of the app.

use std::path::PathBuf;

use controller_api::{NewJob, Release};

use super::deploy;
use crate::attached::{self, Ends, Source};
use crate::connection::Controller;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The app's variable that names the app of its database.
const DATABASE_APP: &str = "FLYNN_POSTGRES";
/// What the tools need to know.
const NEEDED: [&str; 4] = ["PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"];

/// Manage a postgres database
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn pg psql [--] [<argument>...]\nflynn pg dump [-q] [-f <file>]\n\
    flynn pg restore [-q] [-f <file>]")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Open a console, or run what psql's arguments say
    Psql {
        /// For psql
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write the database as a dump of pg_dump's custom format
    Dump {
        /// Show no progress
        #[arg(short, long)]
        quiet: bool,
        /// Where to; standard output otherwise
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Replace the database's contents by a dump
    Restore {
        /// Show no progress
        #[arg(short, long)]
        quiet: bool,
        /// Where from; standard input otherwise
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let database = Database::of(&controller, &app).await?;
    match args.action {
        Action::Psql { arguments } => {
            let mut job = database.job("psql", &arguments);
            job.env.insert("PAGER".to_owned(), "less".to_owned());
            job.env.insert(
                "LESS".to_owned(),
                "--ignore-case --LONG-PROMPT --SILENT \
                --tabs=4 --quit-if-one-screen --no-init --quit-at-eof"
                    .to_owned(),
            );
            let term = context.environment.term.clone();
            if attached::is_interactive() {
                job = attached::with_terminal(job, term.as_deref());
            }
            let ends = Ends { input: Source::Stdin, output: None };
            attached::run(&controller, &app, &job, ends, context).await
        }
        Action::Dump { quiet: _, file } => {
            let job = database.job("pg_dump", &["--format=custom", "--no-owner", "--no-acl"]);
            dump(&controller, &app, &job, file, context).await
        }
        Action::Restore { quiet: _, file } => {
            let name = database.name().to_owned();
            let flags =
                ["-d", &name, "-n", "public", "--clean", "--if-exists", "--no-owner", "--no-acl"];
            let job = database.job("pg_restore", &flags);
            let input = match file {
                Some(path) => {
                    let opened = tokio::fs::File::open(&path).await;
                    let failed = Failure::io(format!("could not open {}", path.display()));
                    Source::File(opened.map_err(failed)?)
                }
                None => Source::Stdin,
            };
            attached::run(&controller, &app, &job, Ends { input, output: None }, context).await
        }
    }
}

async fn dump(
    controller: &Controller,
    app: &str,
    job: &NewJob,
    file: Option<PathBuf>,
    context: &mut Context<'_>,
) -> Outcome {
    let Some(path) = file else {
        let ends = Ends { input: Source::Nothing, output: None };
        return attached::run(controller, app, job, ends, context).await;
    };
    let failed = Failure::io(format!("could not write {}", path.display()));
    let file = std::fs::File::create(&path).map_err(failed)?;
    let ends = Ends { input: Source::Nothing, output: Some(file) };
    attached::run(controller, app, job, ends, context).await
}

/// The app's database, and the release whose image has its tools.
struct Database {
    release: Release,
    env: std::collections::BTreeMap<String, String>,
}

impl Database {
    async fn of(controller: &Controller, app: &str) -> Result<Self, Failure> {
        let release = deploy::current(controller, app).await?;
        let release = release.ok_or_else(|| {
            Failure::said("error getting app release: controller: resource not found")
        })?;
        let name = release.env.get(DATABASE_APP).ok_or_else(|| {
            Failure::said(
                "No postgres database found. Provision one with `flynn resource add postgres`",
            )
        })?;
        let mut env = std::collections::BTreeMap::new();
        for key in NEEDED {
            let value = release.env.get(key);
            let value =
                value.ok_or_else(|| Failure::said(format!("missing {key} in app environment")))?;
            env.insert(key.to_owned(), value.clone());
        }
        let found = deploy::current(controller, name).await?;
        let release = found.ok_or_else(|| {
            Failure::said("error getting postgres release: controller: resource not found")
        })?;
        Ok(Self { release, env })
    }

    fn name(&self) -> &str {
        self.env.get("PGDATABASE").map_or("", String::as_str)
    }

    /// A job of the database's image that sees this database alone.
    fn job<T: AsRef<str>>(&self, program: &str, arguments: &[T]) -> NewJob {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
        NewJob {
            release: self.release.id.clone(),
            env: self.env.clone(),
            disable_log: true,
            args: std::iter::once(program.to_owned()).chain(arguments.iter().cloned()).collect(),
            entrypoint: vec![program.to_owned()],
            cmd: arguments,
            ..NewJob::default()
        }
    }
}
