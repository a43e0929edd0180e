//! Pushes that are cut short at any moment, by the end of gitreceive or of the whole host: afterwards the
//! app runs the old release or the new one, entirely; nothing of the push is left over, and the next
//! push works.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{DOMAIN, Platform, on_platform, until};
use controller_api::{Client, JobState, META_APP_NAME, META_TYPE, Release};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Person, until_page};

const APP: &str = "hello";
/// How often the power goes, unless `PUSH_CUTS` says otherwise.
const POWER_CUTS: usize = 2;

/// What ends in the middle of a push.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Every process of gitreceive.
    Gitreceive,
    /// Every process of the host.
    Power,
}

/// A platform, and who pushes to it.
struct World {
    platform: Platform,
    person: Person,
    controller: Client,
}

#[test]
fn pushes_that_are_cut_short_leave_the_old_release_or_the_new_one() {
    on_platform("cutpushes", async |platform| {
        let seed: u64 = number("SEED").unwrap_or_else(rand::random);
        println!("SEED={seed}");
        let power_cuts = number("PUSH_CUTS").unwrap_or(POWER_CUTS);
        let person = Person::new(&platform, APP)?;
        person.commit(&platform, "text-0")?;
        let started = Instant::now();
        let said = person.git(&platform, &["push", "flynn", "master"]);
        said.with_context(|| platform.node.log())?;
        let usual = started.elapsed();
        until_page(&platform, &page(), "text-0").await?;
        let controller = Client::new(&format!("http://controller.{DOMAIN}"), &platform.key()?)?;
        let mut world = World { platform, person, controller };
        let mut random = StdRng::seed_from_u64(seed);
        let cuts = std::iter::once(Cut::Gitreceive).chain([Cut::Power].repeat(power_cuts));
        for (round, what) in cuts.enumerate() {
            let delay = (usual * 3 / 2).mul_f64(random.random());
            let context = format!("round {round}, SEED={seed}, {what:?} after {delay:?}");
            let outcome = world.round(round, what, delay).await;
            let came_of_it = outcome.with_context(|| format!("{context} of {usual:?}"))?;
            println!("{context} of {usual:?}: {came_of_it}");
        }
        world.nothing_is_left_on_the_host().await
    });
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn page() -> String {
    format!("http://{APP}.{DOMAIN}/")
}

impl World {
    /// A push that is cut short, what must hold then, and another one. Tells what came of the first.
    async fn round(&mut self, round: usize, what: Cut, delay: Duration) -> anyhow::Result<String> {
        let releases = self.controller.app_releases(APP).await?.len();
        let texts = [format!("text-{}", 2 * round), format!("text-{}", 2 * round + 1)];
        self.person.commit(&self.platform, &texts[1])?;
        self.cut(what, delay).await?;
        let mut last = Ok(String::new());
        let settled = until("the app has settled", async || {
            last = self.settled(&texts).await;
            last.is_ok()
        });
        settled.await.with_context(|| format!("{last:?}\n{}", self.platform.node.log()))?;
        let made = self.controller.app_releases(APP).await?.len() - releases;
        ensure!(made <= 1, "one push made {made} releases");
        let next = format!("text-{}", 2 * round + 2);
        self.person.commit(&self.platform, &next)?;
        self.person.push_again(&self.platform).await?;
        until_page(&self.platform, &page(), &next).await?;
        last
    }

    /// Ends something in the middle of a push.
    async fn cut(&mut self, what: Cut, delay: Duration) -> anyhow::Result<()> {
        let mut push = self.person.command(&self.platform, "git", &["push", "flynn", "master"]);
        let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        tokio::time::sleep(delay).await;
        match what {
            Cut::Power => self.platform.node.power_cut().await?,
            Cut::Gitreceive => {
                let killed = self.platform.node.host.kill_in_jobs("flynn-component", "gitreceive");
                ensure!(killed > 0, "there was no gitreceive to kill");
            }
        }
        // A push that was over already is fine; one that hangs is not.
        let ended = until("git ends", async || matches!(push.try_wait(), Ok(Some(_)))).await;
        drop(push.kill());
        drop(push.wait());
        ended
    }

    /// One release, entirely: the app's current one is of the last revision or the one before, its
    /// formation is the only one, its job the only one, and its page is what people see.
    async fn settled(&self, texts: &[String; 2]) -> anyhow::Result<String> {
        let deployments = self.controller.deployments(APP).await?;
        let going = deployments.iter().filter(|one| one.finished_at.is_none()).count();
        ensure!(going == 0, "{going} deployments are not over");
        let release = self.controller.app_release(APP).await?;
        self.runs_nothing_but(&release).await?;
        let commit = release.meta.get("git.commit").context("a release without its commit")?;
        for (revision, text) in ["HEAD~1", "HEAD"].into_iter().zip(texts) {
            if self.person.git(&self.platform, &["rev-parse", revision])?.trim() == commit {
                let shown = self.platform.fetch(&page())?;
                ensure!(shown.contains(text), "{text} is not in {shown}");
                return Ok(format!("the release of {revision}"));
            }
        }
        bail!("the release is of {commit}")
    }

    /// No other formation, no other job, no build: neither for the controller nor on the host.
    async fn runs_nothing_but(&self, release: &Release) -> anyhow::Result<()> {
        let formations = self.controller.formations(APP).await?.into_iter();
        let wanted = formations
            .filter(|one| one.processes.iter().flatten().any(|(_, count)| *count > 0))
            .map(|formation| formation.release);
        let wanted: Vec<_> = wanted.collect();
        ensure!(wanted == std::slice::from_ref(&release.id), "wanted are {wanted:?}");
        let jobs = self.controller.jobs(APP).await?.into_iter();
        let jobs = jobs.filter(|job| job.state.is_some_and(JobState::is_active));
        let jobs: Vec<_> = jobs.map(|job| (job.process_type, job.release)).collect();
        ensure!(jobs == [("web".to_owned(), release.id.clone())], "the controller has {jobs:?}");
        let running = self.platform.node.client.active_jobs().await?.into_values();
        let of_app = running
            .filter(|job| !job.status.has_ended())
            .filter(|job| job.job.meta(META_APP_NAME) == Some(APP))
            .map(|job| job.job.meta(META_TYPE).unwrap_or_default().to_owned());
        let of_app: Vec<_> = of_app.collect();
        ensure!(of_app == ["web"], "the host runs {of_app:?}");
        Ok(())
    }

    /// What ended jobs had is given back: their folders and scratch disks.
    async fn nothing_is_left_on_the_host(&self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        let gone = until("nothing of ended jobs is left", async || {
            let Ok(jobs) = self.platform.node.client.active_jobs().await else { return false };
            let jobs = jobs.into_values().filter(|job| !job.status.has_ended());
            let jobs: BTreeSet<_> = jobs.map(|job| job.job.id.to_string()).collect();
            left = names_below(&self.platform, &["jobs", "scratch/jobs"]);
            left.retain(|name| !jobs.contains(name.trim_end_matches(".img")));
            left.is_empty()
        });
        gone.await.with_context(|| format!("{left:?}"))
    }
}

fn names_below(platform: &Platform, dirs: &[&str]) -> Vec<String> {
    let read = |dir: &&str| std::fs::read_dir(platform.node.data_dir().join(dir));
    let entries = dirs.iter().flat_map(read).flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
