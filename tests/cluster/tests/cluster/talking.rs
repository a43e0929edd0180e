//! Talking to apps: their logs, one-off jobs, databases; and that a daemon's sudden end costs nothing.

use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{Platform, on_platform, on_shared_platform, until};
use serde_json::json;

const APP: &str = "demo";
const PROGRAM: &str = "/bin/test-apps";

#[test]
fn apps_are_talked_to() {
    on_platform("talking", async |mut platform| {
        platform.app(APP, &json!({"printer": {"args": [PROGRAM, "printer"]}})).await?;
        three_jobs_are_one_log(&platform).await?;
        one_off_jobs_print_fail_and_are_logged(&platform).await?;
        fifty_megabytes_come_back_equal(&platform)?;
        signals_reach_the_program(&platform).await?;
        databases_are_asked(&platform).await?;
        no_line_is_lost_with_the_daemon(&mut platform).await?;
        an_attached_job_outlives_the_daemon(&mut platform).await?;
        let job = no_line_is_lost_with_the_aggregator(&platform).await?;
        platform.node.power_cut().await?;
        let is_whole = || log(&platform, &["-j", &job, "-r"]).is_ok_and(|log| log == counted(3000));
        let back = until("the log is whole after a power cut", async || is_whole()).await;
        back.with_context(|| platform.node.log())
    });
}

#[test]
fn people_watch_and_type() {
    on_shared_platform(async |platform| {
        platform.app(APP, &json!({"printer": {"args": [PROGRAM, "printer"]}})).await?;
        lines_are_followed(&platform).await?;
        a_followed_log_outlives_its_aggregator(&platform).await?;
        a_terminal_is_one_at_both_ends(&platform).await
    });
}

fn run(platform: &Platform, args: &[&str]) -> anyhow::Result<Command> {
    platform.flynn_command(&[&["-a", APP, "run"], args].concat())
}

fn log(platform: &Platform, args: &[&str]) -> anyhow::Result<String> {
    platform.flynn(&[&["-a", APP, "log"], args].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lines 1 to `count` of a program that counts.
fn counted(count: u32) -> String {
    (1..=count).map(|number| format!("line {number}\n")).collect()
}

async fn three_jobs_are_one_log(platform: &Platform) -> anyhow::Result<()> {
    platform.flynn(&["-a", APP, "scale", "printer=3"])?;
    let jobs = || {
        let lines = log(platform, &["-t", "printer"]).unwrap_or_default();
        let of =
            |line: &str| line.split("app[printer.").nth(1)?.split(']').next().map(str::to_owned);
        lines.lines().filter_map(of).collect::<std::collections::BTreeSet<_>>()
    };
    let come = until("lines of three jobs are there", async || jobs().len() == 3).await;
    come.with_context(|| format!("{:?}\n{}", log(platform, &[]), platform.node.log()))?;
    let one = log(platform, &["-n", "1"])?;
    let (time, rest) = one.split_once(' ').context("a time stands first")?;
    let micros = time.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    ensure!(time.ends_with('Z') && micros == 7, "{one:?}");
    ensure!(rest.starts_with("app[printer.") && rest.ends_with("]: I like to print\n"), "{one:?}");
    ensure!(log(platform, &["-r", "-n", "2"])? == "I like to print\nI like to print\n");
    platform.flynn(&["-a", APP, "scale", "printer=0"]).map(drop)
}

async fn one_off_jobs_print_fail_and_are_logged(platform: &Platform) -> anyhow::Result<()> {
    let done = run(platform, &[PROGRAM, "lines", "3"])?.stdin(Stdio::null()).output()?;
    expect(&done, 0, &counted(3))?;
    let done = run(platform, &[PROGRAM, "no-such-program"])?.stdin(Stdio::null()).output()?;
    ensure!(done.status.code() == Some(64), "{done:?}");
    ensure!(log(platform, &["-t", "", "-r"])?.is_empty(), "jobs are logged when asked for");
    let done = run(platform, &["-l", PROGRAM, "lines", "5"])?.stdin(Stdio::null()).output()?;
    expect(&done, 0, &counted(5))?;
    // At once, without waiting: the end of a job is told after its lines have left.
    ensure!(log(platform, &["-t", "", "-r"])? == counted(5), "{}", log(platform, &[])?);
    let job = detached(platform, &[PROGRAM, "lines", "2000"])?;
    until("the detached job's log is whole", async || {
        log(platform, &["-j", &job, "-r"]).is_ok_and(|log| log == counted(2000))
    })
    .await?;
    ensure!(log(platform, &["-j", &job, "-r", "-n", "1"])? == "line 2000\n");
    Ok(())
}

/// Starts a job nobody waits for; gives its id.
fn detached(platform: &Platform, args: &[&str]) -> anyhow::Result<String> {
    let done = run(platform, &[&["-d"], args].concat())?.output()?;
    ensure!(done.status.success() && done.stdout.is_empty(), "{done:?}");
    Ok(text(&done.stderr).trim().to_owned())
}

fn expect(done: &Output, status: i32, stdout: &str) -> anyhow::Result<()> {
    let said = text(&done.stdout);
    if done.status.code() == Some(status) && said == stdout {
        return Ok(());
    }
    let count = said.lines().count();
    let first_wrong = said.lines().zip(stdout.lines()).find(|(got, want)| got != want);
    bail!("{}, {count} lines, {first_wrong:?}: {}", done.status, text(&done.stderr))
}

fn fifty_megabytes_come_back_equal(platform: &Platform) -> anyhow::Result<()> {
    let path = platform.home().join("input");
    let mut seed = 1_u64;
    let mut bytes = Vec::with_capacity(50 << 20);
    while bytes.len() < 50 << 20 {
        // A linear congruence: nothing here compresses or repeats.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    File::create(&path)?.write_all(&bytes)?;
    let done = run(platform, &[PROGRAM, "cat"])?.stdin(File::open(&path)?).output()?;
    ensure!(done.status.success(), "{}: {}", done.status, text(&done.stderr));
    ensure!(done.stdout.len() == bytes.len(), "{} bytes came back", done.stdout.len());
    ensure!(done.stdout == bytes, "other bytes came back");
    Ok(())
}

async fn signals_reach_the_program(platform: &Platform) -> anyhow::Result<()> {
    let path = platform.home().join("said");
    let mut command = run(platform, &[PROGRAM, "signal"])?;
    let child = command.stdin(Stdio::null()).stdout(File::create(&path)?).spawn()?;
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    until("the program runs", async || said() == "ready\n").await?;
    let pids = platform.node.host.pids("flynn");
    ensure!(pids.len() == 1, "{pids:?}");
    // SAFETY: a signal to a process of this test's host that nobody has waited for.
    ensure!(unsafe { libc::kill(pids[0], libc::SIGINT) } == 0);
    let done = child.wait_with_output()?;
    ensure!(done.status.code() == Some(0), "{done:?}");
    ensure!(said() == "ready\ngot signal: interrupt\n", "{:?}", said());
    Ok(())
}

async fn lines_are_followed(platform: &Platform) -> anyhow::Result<()> {
    let path = platform.home().join("followed");
    let mut command = platform.flynn_command(&["-a", APP, "log", "-f", "-r", "-t", ""])?;
    let mut child = command.stdin(Stdio::null()).stdout(File::create(&path)?).spawn()?;
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    let mut jobs = 0;
    // The first job may print before the command follows.
    let come = until("a followed line comes", async || {
        jobs += 1;
        detached(platform, &[PROGRAM, "lines", "1"]).is_ok() && said().contains("line 1\n")
    });
    come.await?;
    detached(platform, &[PROGRAM, "paced", "5", "10"])?;
    let come = until("five more come in order", async || said().ends_with(&counted(5))).await;
    child.kill()?;
    child.wait()?;
    come.with_context(|| format!("{jobs} jobs: {:?}", said()))
}

/// `script` gives the command a terminal, and types what comes on its own standard input.
async fn a_terminal_is_one_at_both_ends(platform: &Platform) -> anyhow::Result<()> {
    let path = platform.home().join("typed");
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    let start = |program: &str| -> anyhow::Result<Child> {
        let flynn = platform.flynn_command(&["-a", APP, "run", PROGRAM, program])?;
        let mut words = vec![flynn.get_program().to_string_lossy().into_owned()];
        words.extend(flynn.get_args().map(|word| word.to_string_lossy().into_owned()));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        for (name, value) in flynn.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.stdin(Stdio::piped()).stdout(File::create(&path)?).stderr(Stdio::null());
        Ok(command.spawn()?)
    };
    let mut child = start("signal")?;
    let mut keyboard = child.stdin.take().context("piped")?;
    let ready = until("the program is ready", async || said() == "ready\r\n").await;
    ready.with_context(|| format!("{:?}", said()))?;
    // Ctrl-C is a byte here, and a signal there.
    keyboard.write_all(b"\x03")?;
    let done = wait(child).await?;
    ensure!(said().ends_with("got signal: interrupt\r\n"), "{:?}", said());
    ensure!(done.status.code() == Some(0), "{done:?}");
    // Whoever leaves a terminal stops its job.
    let child = start("printer")?;
    let up = || {
        let jobs = platform.flynn(&["-a", APP, "ps", "-q"]).unwrap_or_default();
        jobs.lines().count()
    };
    until("the job runs", async || up() == 1 && said().contains("print")).await?;
    ensure!(platform.node.host.kill("flynn", PROGRAM) == 1);
    wait(child).await?;
    until("the job was stopped", async || up() == 0).await
}

async fn databases_are_asked(platform: &Platform) -> anyhow::Result<()> {
    platform.flynn(&["-a", APP, "resource", "add", "postgres"])?;
    let env = platform.flynn(&["-a", APP, "env"])?;
    for key in ["DATABASE_URL=postgres://", "PGHOST=leader.postgres.discoverd", "FLYNN_POSTGRES="] {
        ensure!(env.contains(key), "{key}: {env}");
    }
    let psql = |sql: &str| {
        let args = ["-a", APP, "pg", "psql", "--", "--no-psqlrc", "-tAc", sql];
        platform.flynn(&args).map(|said| said.trim().to_owned())
    };
    psql("CREATE TABLE hits (n int); INSERT INTO hits VALUES (7)")?;
    ensure!(psql("SELECT n FROM hits")? == "7");
    let dump = platform.home().join("latest.dump");
    let dump = dump.to_string_lossy();
    platform.flynn(&["-a", APP, "pg", "dump", "-q", "-f", &dump])?;
    psql("UPDATE hits SET n = 8")?;
    platform.flynn(&["-a", APP, "pg", "restore", "-q", "-f", &dump])?;
    ensure!(psql("SELECT n FROM hits")? == "7");
    let failing = ["-a", APP, "pg", "psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "SELECT odd"];
    ensure!(platform.flynn(&failing).is_err(), "psql's status is the command's");
    platform.flynn(&["-a", APP, "resource", "remove", "postgres"])?;
    ensure!(!platform.flynn(&["-a", APP, "env"])?.contains("DATABASE_URL"));
    Ok(())
}

async fn no_line_is_lost_with_the_daemon(platform: &mut Platform) -> anyhow::Result<()> {
    let count = 8000;
    let job = detached(platform, &[PROGRAM, "paced", &count.to_string(), "2000"])?;
    let lines = |platform: &Platform| log(platform, &["-j", &job, "-r"]).unwrap_or_default();
    until("the job prints", async || lines(platform).lines().count() > 1000).await?;
    platform.node.kill_daemon()?;
    platform.node.start_daemon().await?;
    let last = format!("line {count}");
    until("the last line is there", async || lines(platform).lines().last() == Some(&last)).await?;
    let got = lines(platform);
    let count = got.lines().count();
    ensure!(got == counted(8000), "{count} lines: lost, twice or out of order");
    Ok(())
}

async fn an_attached_job_outlives_the_daemon(platform: &mut Platform) -> anyhow::Result<()> {
    for flags in [&[][..], &["-l"]] {
        let path = platform.home().join("attached");
        let mut command = run(platform, &[flags, &[PROGRAM, "paced", "4000", "1000"]].concat())?;
        let child = command.stdin(Stdio::null()).stdout(File::create(&path)?).spawn()?;
        let said = || std::fs::read_to_string(&path).unwrap_or_default();
        until("the job prints", async || said().lines().count() > 500).await?;
        platform.node.kill_daemon()?;
        platform.node.start_daemon().await?;
        let done = wait(child).await?;
        let done = Output { stdout: said().into_bytes(), ..done };
        expect(&done, 0, &counted(4000)).with_context(|| format!("{flags:?}"))?;
    }
    Ok(())
}

/// The command's end; one that does not come ends the command.
async fn wait(mut child: Child) -> anyhow::Result<Output> {
    let ended = until("the command ends", async || !matches!(child.try_wait(), Ok(None))).await;
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended.map(|()| output)
}

/// An aggregator has lines in memory only; a new one gets them from the hosts' files.
async fn no_line_is_lost_with_the_aggregator(platform: &Platform) -> anyhow::Result<String> {
    let job = detached(platform, &[PROGRAM, "lines", "3000"])?;
    let is_whole = || log(platform, &["-j", &job, "-r"]).is_ok_and(|log| log == counted(3000));
    until("the log is whole", async || is_whole()).await?;
    let killed = platform.node.host.kill_in_jobs("flynn-component", "logaggregator");
    ensure!(killed > 0, "there was no aggregator to kill");
    until("the aggregator is away", async || !is_whole()).await?;
    let back = until("the log is whole again", async || is_whole()).await;
    back.with_context(|| platform.node.log())?;
    Ok(job)
}

/// Whoever follows goes on with the next aggregator, after the line that came last.
async fn a_followed_log_outlives_its_aggregator(platform: &Platform) -> anyhow::Result<()> {
    let job = detached(platform, &[PROGRAM, "paced", "4000", "400"])?;
    let path = platform.home().join("outlived");
    let mut command =
        platform.flynn_command(&["-a", APP, "log", "-f", "-n", "10000", "-r", "-j", &job])?;
    let mut child = command.stdin(Stdio::null()).stdout(File::create(&path)?).spawn()?;
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    let begun = until("lines are followed", async || said().lines().count() > 300).await;
    let killed = platform.node.host.kill_in_jobs("flynn-component", "logaggregator");
    let whole = until("the last line came", async || said().contains("line 4000\n")).await;
    child.kill()?;
    child.wait()?;
    begun.with_context(|| platform.node.log())?;
    ensure!(killed > 0, "there was no aggregator to kill");
    whole.with_context(|| format!("{} lines\n{}", said().lines().count(), platform.node.log()))?;
    ensure!(
        said() == counted(4000),
        "{} lines: lost, twice or out of order",
        said().lines().count()
    );
    Ok(())
}
