//! From `git push` to the first answer of the Node.js example, split by what the push says on the way: the
//! first push of an empty platform, then pushes of a changed file.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cluster_tests::{DOMAIN, Platform, binaries, on_platform};

use crate::figures::Series;

const APP: &str = "hello";
/// How long a page may take after the push.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the page.
const LOOK: Duration = Duration::from_millis(20);

/// Where a step ends: the line of the push that says so.
const STEPS: [(&str, &str); 8] = [
    ("receive", "-----> Building"),
    ("build job start", "Node.js app detected"),
    ("runtime", "-----> Installing dependencies"),
    ("npm and pruning", "-----> Uploading slug"),
    ("slug upload", "-----> Compiled slug size"),
    ("end of the build", "-----> Creating release"),
    ("release and deployment", "=====> Application deployed"),
    ("ref stored, git ends", ""),
];

pub(crate) fn measure(rounds: usize) {
    on_platform("bench", async |platform| {
        let work = Work::new(&platform)?;
        println!("push, cold (first of the platform)");
        for (step, seconds) in work.push(&platform, 0)? {
            println!("push, cold, {step}: {seconds:.2} s");
        }
        let mut series: Vec<(&str, Series)> = Vec::new();
        for round in 1..=rounds {
            for (at, (step, seconds)) in work.push(&platform, round)?.into_iter().enumerate() {
                if round == 1 {
                    series.push((step, Series::default()));
                }
                if let Some((_, of_step)) = series.get_mut(at) {
                    of_step.add(seconds);
                }
            }
        }
        for (step, of_step) in &series {
            println!("push, warm, {step}: {}", of_step.tell("s"));
        }
        Ok(())
    });
}

/// A working copy of the example, with an app.
struct Work {
    dir: PathBuf,
    home: PathBuf,
}

impl Work {
    fn new(platform: &Platform) -> anyhow::Result<Self> {
        let line = platform.said.lines().find(|line| line.starts_with("flynn cluster add"));
        let words: Vec<_> = line.context("no cluster add")?.split(' ').skip(3).collect();
        platform.flynn(&[&["cluster", "add", "--force"], &words[..]].concat())?;
        let home = platform.home().to_owned();
        let work = Self { dir: home.join(APP), home };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(APP);
        let copied =
            std::process::Command::new("cp").arg("-r").arg(&source).arg(&work.dir).status();
        ensure!(copied?.success(), "cannot copy {}", source.display());
        work.run(platform, "git", &["init", "-q", "-b", "master"])?;
        work.run(platform, "git", &["config", "user.name", "Person"])?;
        work.run(platform, "git", &["config", "user.email", "person@example.test"])?;
        work.run(platform, &binaries()?.join("flynn").to_string_lossy(), &["create", APP])?;
        Ok(work)
    }

    fn command(&self, platform: &Platform, program: &str, words: &[&str]) -> std::process::Command {
        let mut command = platform.node.host.command("env");
        command.arg("-C").arg(&self.dir).arg(program).args(words).stdin(Stdio::null());
        command.env("HOME", &self.home).env("FLYNNRC", self.home.join("flynnrc"));
        command.env_remove("GIT_SSL_CAINFO").env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    fn run(&self, platform: &Platform, program: &str, words: &[&str]) -> anyhow::Result<()> {
        let done = self.command(platform, program, words).output()?;
        ensure!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Pushes a page that names the round; gives each step with its seconds, the whole last.
    fn push(&self, platform: &Platform, round: usize) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let server = self.dir.join("server.js");
        let text = std::fs::read_to_string(&server)?;
        let (old, new) = (format!("Hello {}from", said(round.checked_sub(1))), said(Some(round)));
        let changed = text.replace(&old, &format!("Hello {new}from"));
        ensure!(changed != text, "no {old:?} in {text}");
        std::fs::write(&server, changed)?;
        self.run(platform, "git", &["add", "-A"])?;
        self.run(platform, "git", &["commit", "-q", "-m", "round"])?;
        let (begin, over) = (Instant::now(), AtomicBool::new(false));
        let (marks, page) = std::thread::scope(|scope| {
            let page = scope.spawn(|| self.until_page(platform, &new, &over));
            let marks = self.marks(platform);
            over.store(true, Ordering::SeqCst);
            (marks, page.join().unwrap_or_else(|_| bail!("the look at the page panicked")))
        });
        Ok(split(begin, &marks?, page?))
    }

    /// When each line of the push came.
    fn marks(&self, platform: &Platform) -> anyhow::Result<Vec<(String, Instant)>> {
        let mut push = self.command(platform, "git", &["push", "flynn", "master"]);
        let mut push = push.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut said = push.stderr.take().context("it was asked for")?;
        let (mut marks, mut rest, mut piece) = (Vec::new(), Vec::new(), [0; 4096]);
        loop {
            let count = said.read(&mut piece)?;
            let now = Instant::now();
            rest.extend_from_slice(&piece[..count]);
            while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let line: Vec<u8> = rest.drain(..=end).collect();
                marks.push((String::from_utf8_lossy(&line).into_owned(), now));
            }
            if count == 0 {
                break;
            }
        }
        let status = push.wait()?;
        marks.push((String::new(), Instant::now()));
        let lines: Vec<_> = marks.iter().map(|(line, _)| line.as_str()).collect();
        ensure!(status.success(), "git push: {}", lines.concat());
        Ok(marks)
    }

    /// When the page first shows the new text.
    fn until_page(
        &self,
        platform: &Platform,
        text: &str,
        over: &AtomicBool,
    ) -> anyhow::Result<Instant> {
        let url = format!("http://{APP}.{DOMAIN}/");
        let mut give_up = None;
        loop {
            if platform.fetch(&url).is_ok_and(|page| page.contains(text)) {
                return Ok(Instant::now());
            }
            if over.load(Ordering::SeqCst) {
                let limit = *give_up.get_or_insert_with(|| Instant::now() + PATIENCE);
                ensure!(Instant::now() < limit, "no page with {text:?} after the push");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// What the page of a round says between its words.
fn said(round: Option<usize>) -> String {
    round.map(|round| format!("in round {round} ")).unwrap_or_default()
}

fn split(begin: Instant, marks: &[(String, Instant)], page: Instant) -> Vec<(&'static str, f64)> {
    let mut from = begin;
    let mut steps = Vec::new();
    for (step, words) in STEPS {
        let mark = match words {
            "" => marks.last(),
            words => marks.iter().find(|(line, _)| line.contains(words)),
        };
        // A push that did not say so has no such step.
        let Some((_, at)) = mark else { continue };
        steps.push((step, at.saturating_duration_since(from).as_secs_f64()));
        from = *at;
    }
    steps.push(("the whole push", from.saturating_duration_since(begin).as_secs_f64()));
    steps.push(("push to first answer", page.saturating_duration_since(begin).as_secs_f64()));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_split_where_its_lines_say_so() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let marks = [
            ("remote: -----> Building hello...\n".to_owned(), at(1)),
            ("remote: =====> Application deployed\n".to_owned(), at(4)),
            (String::new(), at(5)),
        ];
        let want = [
            ("receive", 1.0),
            ("release and deployment", 3.0),
            ("ref stored, git ends", 1.0),
            ("the whole push", 5.0),
            ("push to first answer", 3.0),
        ];
        assert_eq!(split(begin, &marks, at(3)), want);
    }
}
