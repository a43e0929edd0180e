//! `flynn run`: a job of its own with the app's code and environment.

use std::path::Path as FilePath;

use controller_api::{Job, NewJob, Release};

use super::{deploy, limit};
use crate::attached::{self, Ends, Source};
use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// What starts programs in images made from pushed code.
const SLUG_INIT: &str = "/runner/init";

/// Run a job
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "flynn run [-d] [-r <release>] [-e <entrypoint>] [-l] [--limits <limits>] \
    [--profiles <profiles>] [--mounts-from <proc>] [--] <command> [<argument>...]"
)]
pub(crate) struct Args {
    /// Do not wait for it; its output goes to the log
    #[arg(short, long)]
    detached: bool,
    /// The release to run, in place of the app's current one
    #[arg(short, long)]
    release: Option<String>,
    /// Deprecated: put it before the command
    #[arg(short, long)]
    entrypoint: Option<String>,
    /// Its output goes to the log too
    #[arg(short = 'l', long)]
    enable_log: bool,
    /// Limits, as in memory=512MB,cpu=500
    #[arg(long)]
    limits: Option<String>,
    /// Sets of devices and rights, as in kvm,loop
    #[arg(long)]
    profiles: Option<String>,
    /// The process type whose mounts it gets
    #[arg(long)]
    mounts_from: Option<String>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let release = deploy::chosen(&controller, &app, args.release.as_deref()).await?;
    let Some(release) = release else {
        return Err(Failure::said("No app release, specify a release with -release"));
    };
    if args.release.is_none() && release.artifacts.is_empty() {
        return Err(Failure::said("App release has no image, push a release first"));
    }
    if args.entrypoint.is_some() {
        context.tell("WARN: The -e flag is deprecated, put the entrypoint before the command")?;
    }
    let job = new_job(&args, &release)?;
    if args.detached {
        let job: Job = controller.post(Path::of(&["apps", &app, "jobs"]), &job).await?;
        return context.tell(super::ps::shown_id(&job));
    }
    let term = context.environment.term.clone();
    let job = if attached::is_interactive() {
        attached::with_terminal(job, term.as_deref())
    } else {
        job
    };
    let ends = Ends { input: Source::Stdin, output: None };
    attached::run(&controller, &app, &job, ends, context).await
}

fn new_job(args: &Args, release: &Release) -> Result<NewJob, Failure> {
    let is_from_git = release.meta.get("git").is_some_and(|git| git == "true");
    let mut command: Vec<String> = args.entrypoint.iter().chain(&args.command).cloned().collect();
    if is_from_git && command.first().is_none_or(|first| !is_slug_init(first)) {
        command.insert(0, SLUG_INIT.to_owned());
    }
    let mut job = NewJob {
        release: release.id.clone(),
        release_env: true,
        disable_log: !args.detached && !args.enable_log,
        // What controllers of old look at.
        entrypoint: command.iter().take(1).cloned().collect(),
        cmd: command.iter().skip(1).cloned().collect(),
        args: command,
        profiles: listed(args.profiles.as_deref()),
        mounts_from: args.mounts_from.clone().unwrap_or_default(),
        ..NewJob::default()
    };
    if args.limits.is_some() {
        job.resources = limit::defaults();
    }
    for text in listed(args.limits.as_deref()) {
        let (kind, limit) = limit::parse(&text)?;
        job.resources.set(kind, Some(limit), Some(limit));
    }
    Ok(job)
}

fn is_slug_init(program: &str) -> bool {
    FilePath::new(program) == FilePath::new(SLUG_INIT)
}

fn listed(text: Option<&str>) -> Vec<String> {
    let items = text.into_iter().flat_map(|text| text.split(','));
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn job(words: &str, git: bool) -> NewJob {
        let args = Args::try_parse_from(words.split(' ')).unwrap();
        let mut release = Release::default();
        if git {
            release.meta.insert("git".into(), "true".into());
        }
        new_job(&args, &release).unwrap()
    }

    #[test]
    fn options_come_first_and_the_rest_is_the_programs() {
        let plain = job("run ls -l --detached", false);
        assert_eq!(plain.args, ["ls", "-l", "--detached"]);
        assert_eq!((plain.entrypoint.len(), plain.cmd.len()), (1, 2));
        assert!(plain.release_env && plain.disable_log);
        assert!(!job("run -l ls", false).disable_log);
        assert!(!job("run -d ls", false).disable_log);
        assert_eq!(job("run -e sh -- -c true", false).args, ["sh", "-c", "true"]);
    }

    #[test]
    fn pushed_code_is_started_by_its_runner() {
        assert_eq!(job("run bash", true).args, ["/runner/init", "bash"]);
        assert_eq!(job("run /runner/init bash", true).args, ["/runner/init", "bash"]);
    }

    #[test]
    fn limits_begin_with_what_everybody_gets() {
        let resources = job("run --limits memory=200MB,max_fd=9000 true", false).resources;
        let limit = |kind| resources.get(kind).limit;
        assert_eq!(limit(host_api::ResourceKind::Memory), Some(200 << 20));
        assert_eq!(limit(host_api::ResourceKind::MaxFd), Some(9000));
        assert_eq!(limit(host_api::ResourceKind::Cpu), Some(1000));
        assert!(job("run true", false).resources.0.is_empty());
    }
}
