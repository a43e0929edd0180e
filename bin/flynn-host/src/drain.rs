//! `flynn-host drain`: a host's jobs move to the others. It waits until they have, and says for what.
//!
//! Three kinds of jobs stay: parts of the host (of process types that run on every host), those that keep data
//! there, and one-off jobs, which nobody would start again and which end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use controller_api::{META_APP_NAME, META_FORMATION, META_TYPE};
use host_api::ActiveJob;

use crate::hosts::{Host, Hosts};
use crate::{Common, doctor, say};

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The host's id.
    host: String,
    /// Take jobs again.
    #[arg(long)]
    end: bool,
    /// Do not wait until the jobs run elsewhere.
    #[arg(long, conflicts_with = "end")]
    no_wait: bool,
}

type Type = (String, String);

/// Jobs of a host by what becomes of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// They move away.
    moving: BTreeMap<Type, usize>,
    /// They end by themselves.
    one_off: Vec<String>,
    /// They keep data here.
    data: BTreeSet<Type>,
}

pub(crate) async fn run(args: DrainArgs, hosts: &Hosts, common: &Common) -> anyhow::Result<()> {
    let host = hosts.host(&args.host).await?;
    host.client.set_draining(!args.end).await?;
    if args.end {
        say(&format!("host {} takes jobs again\n", host.id));
        return Ok(());
    }
    say(&format!("host {} takes no more jobs\n", host.id));
    if args.no_wait {
        say("`flynn-host ps` shows what is left\n");
        return Ok(());
    }
    let Some(parts) = doctor::on_every_host(common).await else {
        anyhow::bail!(
            "the controller does not say what runs on every host, so nobody knows what has to move; \
             `flynn-host doctor` says why, `flynn-host ps` shows what is left"
        );
    };
    wait(&host, &parts).await
}

async fn wait(host: &Host, parts: &BTreeSet<Type>) -> anyhow::Result<()> {
    let mut told = String::new();
    loop {
        let jobs = host.client.active_jobs().await?;
        let left = left(jobs.values(), parts);
        if left.moving.is_empty() && left.one_off.is_empty() {
            say(&format!("host {} is empty but for its own parts{}\n", host.id, left.keepers()));
            return Ok(());
        }
        if told.is_empty() {
            say(
                "Ctrl-C ends the waiting, not the draining; `flynn-host doctor` says why a job finds \
                 no other host\n",
            );
        }
        let text = left.text();
        if text != told {
            say(&format!("waiting for {text}\n"));
            told = text;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn left<'a>(jobs: impl Iterator<Item = &'a ActiveJob>, parts: &BTreeSet<Type>) -> Left {
    let mut left = Left::default();
    for active in jobs {
        let job = &active.job;
        let meta = |name| job.meta(name).unwrap_or_default().to_owned();
        let kind = (meta(META_APP_NAME), meta(META_TYPE));
        if parts.contains(&kind) {
            continue;
        }
        if job.config.volumes.iter().any(|volume| !volume.delete_on_stop) {
            left.data.insert(kind);
        } else if job.resurrect || job.meta(META_FORMATION) == Some("true") {
            *left.moving.entry(kind).or_default() += 1;
        } else {
            left.one_off.push(job.id.to_string());
        }
    }
    left
}

impl Left {
    /// `2 shop web, 1 blog web; host1-x, which end by themselves (…)`.
    fn text(&self) -> String {
        let moving: Vec<_> = self
            .moving
            .iter()
            .map(|((app, process), count)| format!("{count} {app} {process}"))
            .collect();
        let mut parts: Vec<String> = Vec::new();
        if !moving.is_empty() {
            parts.push(moving.join(", "));
        }
        if !self.one_off.is_empty() {
            let ids = self.one_off.join(", ");
            parts.push(format!("{ids}: started by hand, `flynn-host stop` ends them"));
        }
        parts.join("; ")
    }

    /// What stays because of its data.
    fn keepers(&self) -> String {
        let keepers: Vec<_> =
            self.data.iter().map(|(app, process)| format!("{app} {process}")).collect();
        if keepers.is_empty() {
            return String::new();
        }
        format!(" and what keeps its data there: {}", keepers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use host_api::{Job, VolumeBinding};

    use super::*;

    fn job(id: &str, app: &str, process: &str) -> Job {
        let mut job = Job::new(format!("host1-{id}").parse().unwrap());
        for (key, value) in [(META_APP_NAME, app), (META_TYPE, process)] {
            job.metadata.insert(key.to_owned(), value.to_owned());
        }
        job
    }

    fn of_formation(mut job: Job) -> Job {
        job.metadata.insert(META_FORMATION.to_owned(), "true".to_owned());
        job
    }

    #[test]
    fn what_stays_is_not_waited_for() {
        let mut database = of_formation(job("a", "postgres", "postgres"));
        database.config.volumes = vec![VolumeBinding::default()];
        let mut scratch = of_formation(job("b", "shop", "web"));
        scratch.config.volumes =
            vec![VolumeBinding { delete_on_stop: true, ..VolumeBinding::default() }];
        let mut early = job("c", "controller", "web");
        early.resurrect = true;
        let jobs = [
            database,
            scratch,
            early,
            of_formation(job("d", "shop", "web")),
            of_formation(job("e", "router", "app")),
            job("f", "shop", ""),
        ];
        let active: Vec<ActiveJob> = jobs
            .into_iter()
            .map(|job| serde_json::from_value(serde_json::json!({ "job": job })).unwrap())
            .collect();
        let parts = BTreeSet::from([("router".to_owned(), "app".to_owned())]);
        let left = left(active.iter(), &parts);
        assert_eq!(
            left.text(),
            "1 controller web, 2 shop web; host1-f: started by hand, `flynn-host stop` ends them"
        );
        assert_eq!(left.keepers(), " and what keeps its data there: postgres postgres");
    }
}
