//! `ps`, `stop`, `signal`, `inspect`.

use anyhow::{anyhow, bail};
use clap::Args;
use futures_util::future::join_all;
use host_api::{ActiveJob, Timestamp};

use crate::hosts::Hosts;
use crate::say;
use crate::table::{render, row};

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Ended jobs too.
    #[arg(short, long)]
    all: bool,
    /// Ids only.
    #[arg(short, long)]
    quiet: bool,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Arguments of `signal`.
#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    id: String,
    signal: String,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Leave the environment out.
    #[arg(long)]
    omit_env: bool,
    /// Variables whose values are not shown.
    #[arg(long, value_delimiter = ',')]
    redact_env: Vec<String>,
    id: String,
}

pub(crate) async fn ps(args: &PsArgs, hosts: &Hosts) -> anyhow::Result<()> {
    let hosts = hosts.all().await?;
    let lists = join_all(hosts.iter().map(async |host| {
        if args.all { host.client.jobs().await } else { host.client.active_jobs().await }
    }));
    let mut jobs: Vec<ActiveJob> = Vec::new();
    for list in lists.await {
        jobs.extend(list?.into_values());
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.created_at));
    if args.quiet {
        say(&jobs.iter().map(|job| format!("{}\n", job.job.id)).collect::<String>());
        return Ok(());
    }
    let mut rows =
        vec![row(["ID", "STATE", "CREATED", "CONTROLLER APP", "CONTROLLER TYPE", "ERROR"])];
    rows.extend(jobs.iter().map(|active| {
        let meta = |key| active.job.meta(key).unwrap_or_default();
        row([
            active.job.id.as_str(),
            active.status.as_str(),
            &ago(active.created_at),
            meta("flynn-controller.app_name"),
            meta("flynn-controller.type"),
            active.error.as_deref().unwrap_or_default(),
        ])
    }));
    say(&render(&rows));
    Ok(())
}

pub(crate) async fn stop(args: &StopArgs, hosts: &Hosts) -> anyhow::Result<()> {
    let mut failed = false;
    for id in &args.ids {
        let stopped = match hosts.of_job(id).await {
            Ok((host, job)) => {
                let stopped = host.client.stop_job(&job).await;
                stopped.map_err(|error| anyhow!("could not stop job {id}: {error}"))
            }
            Err(error) if error.to_string() == "invalid ID" => {
                Err(anyhow!("could not parse {id}: {error}"))
            }
            Err(error) => Err(error),
        };
        match stopped {
            Ok(()) => say(&format!("{id} stopped\n")),
            Err(error) => {
                say(&format!("{error:#}\n"));
                failed = true;
            }
        }
    }
    if failed { Err(anyhow!("could not stop all jobs")) } else { Ok(()) }
}

pub(crate) async fn signal(args: &SignalArgs, hosts: &Hosts) -> anyhow::Result<()> {
    let Ok(number) = args.signal.parse::<i32>() else {
        say("invalid value for SIGNAL\n");
        bail!("invalid value for SIGNAL {:?}: it must be a number", args.signal);
    };
    let (host, job) = hosts.of_job(&args.id).await.inspect_err(|error| {
        let short = if error.to_string() == "invalid ID" {
            "could not parse"
        } else {
            "could not find the host of"
        };
        say(&format!("{short} {}\n", args.id));
    })?;
    host.client.signal_job(&job, number).await.inspect_err(|_| {
        say(&format!("could not signal job {}\n", args.id));
    })?;
    say(&format!("sent signal {number} to {} successfully\n", args.id));
    Ok(())
}

pub(crate) async fn inspect(args: &InspectArgs, hosts: &Hosts) -> anyhow::Result<()> {
    let (host, id) = hosts.of_job(&args.id).await?;
    let active = host.client.job(&id).await.map_err(|_| anyhow!("no such job"))?;
    let job = &active.job;
    let shown = |value: Option<String>| value.unwrap_or_default();
    let mut rows = vec![
        row(["ID", job.id.as_str()]),
        row(["Args", &job.config.args.join(" ")]),
        row(["Status", active.status.as_str()]),
        row(["CreatedAt", &active.created_at.to_string()]),
        row(["StartedAt", &active.started_at.to_string()]),
        row(["EndedAt", &active.ended_at.to_string()]),
        row(["PID", &shown(active.pid.map(|pid| pid.to_string()))]),
        row(["ExitStatus", &shown(active.exit_status.map(|status| status.to_string()))]),
        row(["Error", active.error.as_deref().unwrap_or_default()]),
        row(["IP Address", &shown(active.internal_ip.map(|ip| ip.to_string()))]),
    ];
    for (index, spec) in job.mountspecs.iter().enumerate() {
        rows.push(row([&format!("Mountspec[{index}]"), &spec.id]));
    }
    for binding in &job.config.volumes {
        rows.push(row([&format!("Volume[{}]", binding.target), &binding.volume]));
    }
    rows.extend(job.metadata.iter().map(|(key, value)| row([key, value])));
    if !args.omit_env {
        rows.extend(job.config.env.iter().map(|(key, value)| {
            let value = if args.redact_env.contains(key) { "XXXREDACTEDXXX" } else { value };
            row([&format!("ENV[{key}]"), value])
        }));
    }
    say(&render(&rows));
    Ok(())
}

/// `5 minutes ago`.
fn ago(at: Timestamp) -> String {
    let seconds = (chrono::Utc::now() - at.0).num_seconds().max(0);
    let (count, unit) = match seconds {
        0 => return "Less than a second ago".to_owned(),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}
