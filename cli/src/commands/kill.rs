//! `flynn kill`: stops jobs.

use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Kill jobs; the scheduler replaces those a formation wants
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn kill <job>...")]
pub(crate) struct Args {
    /// Ids of jobs
    #[arg(required = true)]
    jobs: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut failed = false;
    for job in &args.jobs {
        match controller.delete(Path::of(&["apps", &app, "jobs", job])).await {
            Ok(()) => context.tell(format!("Job {job} killed."))?,
            Err(failure) => {
                failed = true;
                let why = failure.message().unwrap_or_default();
                context.tell(format!("ERROR: could not kill job {job}: {why}"))?;
            }
        }
    }
    if failed { Err(Failure::said("Could not kill all jobs.")) } else { Ok(()) }
}
