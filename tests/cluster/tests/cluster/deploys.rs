//! Deploys of an app under load: nobody notices a good one, a bad one leaves the old release serving
//! and says why, and a killed worker is no reason to stop.

mod traffic;

use anyhow::{Context as _, ensure};
use cluster_tests::{DOMAIN, Platform, on_platform, until};
use serde_json::json;

use traffic::Traffic;

const APP: &str = "page";
/// How often the app is deployed while nobody may notice, unless `DEPLOYS` says otherwise.
const DEPLOYS: usize = 3;
/// Seconds a step of a deployment may take when it shall fail by time.
const TIMEOUT: &str = "15";

/// The strategies that nobody may notice, in turn.
const STRATEGIES: [&str; 3] = ["all-at-once", "one-by-one", "in-batches"];
/// Apps of the platform, which are deployed like any other.
const SYSTEM_APPS: [&str; 4] = ["logaggregator", "blobstore", "scheduler", "controller"];

/// What a release is told to do, and the reason that its deployment has to give.
const FAILURES: [(&str, &str); 4] = [
    ("crash", "web job failed to start: it exited with status 3"),
    ("crash-later", "web job did not stay up: it exited with status 4"),
    ("deaf", "nothing accepts connections on its port 8080"),
    ("broken", "its health check GET / on port 8080 is answered with status 500 instead of 200"),
];

#[test]
fn deploys_drop_nothing_and_say_why_they_fail() {
    on_platform("deploys", async |platform| {
        start_app(&platform).await?;
        nobody_notices_good_ones(&platform).await?;
        a_rollback_is_a_deploy_and_releases_go(&platform).await?;
        bad_ones_fail_with_their_reason(&platform).await?;
        a_killed_worker_is_replaced(&platform).await?;
        the_platform_deploys_itself(&platform).await
    });
}

async fn start_app(platform: &Platform) -> anyhow::Result<()> {
    let check = json!({"type": "http", "path": "/", "interval": 1_000_000_000_u64});
    let port = json!({"port": 8080, "proto": "tcp", "service": {
        "name": "page-web", "create": true, "check": check}});
    let web = json!({"args": ["/bin/test-apps", "webapp"], "ports": [port], "service": "page-web"});
    platform.app(APP, &json!({ "web": web })).await?;
    platform.flynn(&["-a", APP, "scale", "web=3"])?;
    let page = format!("http://{APP}.{DOMAIN}/");
    until("the page is there", async || platform.fetch(&page).is_ok()).await
}

/// Runs `flynn` beside the traffic; its two outputs, and whether it succeeded.
async fn flynn(platform: &Platform, args: &[&str]) -> anyhow::Result<(String, bool)> {
    let mut command = platform.flynn_command(&[&["-a", APP], args].concat())?;
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = [done.stdout, done.stderr].concat();
    Ok((String::from_utf8_lossy(&said).into_owned(), done.status.success()))
}

async fn set(platform: &Platform, variable: &str) -> anyhow::Result<()> {
    let (said, succeeded) = flynn(platform, &["env", "set", variable]).await?;
    ensure!(succeeded, "{variable}: {said}\n{}", platform.node.log());
    Ok(())
}

/// There is no command for an app's strategy.
fn proceed_by(platform: &Platform, strategy: &str) -> anyhow::Result<()> {
    let mut curl = platform.node.host.command("curl");
    curl.args(["--silent", "--fail", "--user", &format!(":{}", platform.key()?)]);
    curl.args(["--header", "Content-Type: application/json"]);
    curl.args(["--data", &json!({ "strategy": strategy }).to_string()]);
    curl.arg(format!("http://controller.{DOMAIN}/apps/{APP}"));
    platform.node.success(&mut curl)
}

async fn release_of_page(platform: &Platform) -> anyhow::Result<String> {
    let page = platform.fetch(&format!("http://{APP}.{DOMAIN}/"))?;
    page.split_whitespace().last().map(str::to_owned).context("no release on the page")
}

/// A deployment is complete when the old jobs are told to stop, a moment before they do.
async fn another_than(platform: &Platform, release: &str) -> anyhow::Result<()> {
    until("no old job is left", async || {
        let listed = platform.flynn(&["-a", APP, "ps", "-a"]).unwrap_or_default();
        !listed.lines().any(|line| line.contains(release) && !line.contains(" down "))
    })
    .await?;
    let now = release_of_page(platform).await?;
    ensure!(now != release, "the page is still {release}");
    Ok(())
}

async fn nobody_notices_good_ones(platform: &Platform) -> anyhow::Result<()> {
    let deploys = std::env::var("DEPLOYS").ok().and_then(|text| text.parse().ok());
    let deploys = deploys.unwrap_or(DEPLOYS);
    let traffic = Traffic::start(&format!("{APP}.{DOMAIN}"));
    traffic.settled().await;
    for number in 0..deploys {
        proceed_by(platform, STRATEGIES[number % STRATEGIES.len()])?;
        let before = release_of_page(platform).await?;
        set(platform, &format!("ROUND={number}")).await?;
        another_than(platform, &before).await?;
    }
    let met = traffic.stop()?;
    ensure!(met.failed.is_empty(), "{met}\n{}", platform.node.log());
    ensure!(met.requests > 1000 && met.slow > 20 && met.messages > 200, "{met}");
    ensure!(met.reopened > 0, "no socket was on a job that ended: {met}");
    let (listed, _) = flynn(platform, &["deployment"]).await?;
    let complete = listed.lines().filter(|line| line.contains("complete")).count();
    ensure!(complete > deploys, "{listed}");
    Ok(())
}

async fn a_rollback_is_a_deploy_and_releases_go(platform: &Platform) -> anyhow::Result<()> {
    proceed_by(platform, STRATEGIES[0])?;
    let before = release_of_page(platform).await?;
    let (said, succeeded) = flynn(platform, &["release", "rollback", "-y"]).await?;
    ensure!(succeeded && said.contains("Successfully rolled back to release"), "{said}");
    another_than(platform, &before).await?;
    let (said, succeeded) = flynn(platform, &["release", "delete", "-y", &before]).await?;
    let gone = format!("Deleted release {before} (deleted 0 files)");
    ensure!(succeeded && said.contains(&gone), "{said}");
    let (listed, _) = flynn(platform, &["release", "-q"]).await?;
    ensure!(!listed.contains(&before), "{listed}");
    let current = release_of_page(platform).await?;
    let (said, succeeded) = flynn(platform, &["release", "delete", "-y", &current]).await?;
    let refusal = "validation_error: cannot delete current app release";
    ensure!(!succeeded && said.contains(refusal), "{said}");
    Ok(())
}

async fn bad_ones_fail_with_their_reason(platform: &Platform) -> anyhow::Result<()> {
    platform.flynn(&["-a", APP, "deployment", "timeout", TIMEOUT])?;
    let before = release_of_page(platform).await?;
    for (mode, reason) in FAILURES {
        let (said, succeeded) = flynn(platform, &["env", "set", &format!("MODE={mode}")]).await?;
        ensure!(!succeeded && said.contains(reason), "{mode}: {said}\n{}", platform.node.log());
        until("the old release alone answers", async || {
            let listed = platform.flynn(&["-a", APP, "ps"]).unwrap_or_default();
            listed.lines().filter(|line| line.contains(" up ")).count() == 3
                && release_of_page(platform).await.is_ok_and(|release| release == before)
        })
        .await?;
    }
    let (listed, _) = flynn(platform, &["deployment"]).await?;
    let failed = listed.lines().filter(|line| line.contains("failed")).count();
    ensure!(failed == FAILURES.len(), "{listed}");
    Ok(())
}

async fn a_killed_worker_is_replaced(platform: &Platform) -> anyhow::Result<()> {
    platform.flynn(&["-a", APP, "deployment", "timeout", "120"])?;
    let before = release_of_page(platform).await?;
    let kill = async {
        until("the deployment is under way", async || {
            let listed = platform.flynn(&["-a", APP, "ps"]).unwrap_or_default();
            listed.lines().filter(|line| line.contains(" up ")).count() > 3
        })
        .await?;
        ensure!(
            platform.node.host.kill_in_jobs("flynn-component", "worker") > 0,
            "no worker to kill"
        );
        Ok(())
    };
    let (deployed, killed) = tokio::join!(set(platform, "AFTER=death"), kill);
    deployed?;
    killed?;
    another_than(platform, &before).await
}

async fn the_platform_deploys_itself(platform: &Platform) -> anyhow::Result<()> {
    for app in SYSTEM_APPS {
        platform
            .flynn(&["-a", app, "env", "set", "ROUND=1"])
            .with_context(|| format!("deploying {app}"))?;
        let env = platform.flynn(&["-a", app, "env", "get", "ROUND"])?;
        ensure!(env.trim() == "1", "{app}: {env}");
    }
    let refused = platform.flynn(&["-a", "postgres", "env", "set", "ROUND=1"]);
    let refused = format!("{:?}", refused.err().context("the only database was replaced")?);
    ensure!(refused.contains("a database that is one server"), "{refused}");
    set(platform, "AFTER=deploys-of-the-platform").await
}
