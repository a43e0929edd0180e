//! `flynn ps`: the app's jobs.

use controller_api::{Job, JobState};

use crate::connection::Path;
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::{Table, ago};

/// List the app's jobs; those that are up or pending, oldest first
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn ps [-a] [-c] [-q] [-t <type>]")]
pub(crate) struct Args {
    /// Show all jobs
    #[arg(short, long)]
    all: bool,
    /// Show the command
    #[arg(short, long)]
    command: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show jobs of this process type
    #[arg(short = 't', long = "type")]
    process_type: Option<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut jobs: Vec<Job> = controller.get(Path::of(&["apps", &app, "jobs"])).await?;
    jobs.retain(|job| args.shows(job));
    jobs.sort_by_key(|job| job.created_at);
    if args.quiet {
        let ids: String = jobs.iter().map(|job| format!("{}\n", shown_id(job))).collect();
        return context.print(&ids);
    }
    context.print(&table(&jobs, args.command).render())
}

impl Args {
    fn shows(&self, job: &Job) -> bool {
        let is_of_type = self.process_type.as_ref().is_none_or(|wanted| *wanted == job.process_type);
        let is_shown = self.all || matches!(job.state, Some(JobState::Up | JobState::Pending));
        is_of_type && is_shown
    }
}

fn table(jobs: &[Job], with_command: bool) -> Table {
    let mut header = vec!["ID", "TYPE", "STATE", "CREATED", "RELEASE"];
    if with_command {
        header.push("COMMAND");
    }
    // Only where there is something to say: scripts count columns.
    let with_reason = jobs.iter().any(|job| job.host_error.is_some());
    if with_reason {
        header.push("WHY");
    }
    let mut table = Table::with_header(&header);
    let now = chrono::Utc::now();
    for job in jobs {
        let process_type = if job.process_type.is_empty() { "run" } else { &job.process_type };
        let mut cells = vec![
            shown_id(job),
            process_type.to_owned(),
            job.state.map(|state| state.to_string()).unwrap_or_default(),
            ago(job.created_at.map(|at| at.0), now),
            job.release.as_ref().map(ToString::to_string).unwrap_or_default(),
        ];
        if with_command {
            cells.push(job.args.join(" "));
        }
        if with_reason {
            cells.push(job.host_error.clone().unwrap_or_default());
        }
        table.row(cells);
    }
    table
}

/// A job that has no host yet is named by its UUID alone.
pub(super) fn shown_id(job: &Job) -> String {
    let id = job.id.as_ref().map(ToString::to_string);
    id.or_else(|| job.uuid.as_ref().map(ToString::to_string)).unwrap_or_default()
}
