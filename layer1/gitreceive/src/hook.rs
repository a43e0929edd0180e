//! git's pre-receive hook: which revision of a push is deployed, checked out with its submodules. Not
//! part of the server's process; git starts it for each push (spec/pipeline.md §3).

use std::collections::BTreeMap;
use std::path::Path;

use tokio::io::AsyncReadExt as _;

use crate::git::{Git, GitError};
use crate::receiver::{self, Order, ReceiveError};
use crate::settings::Settings;
use crate::source::Source;
use crate::terminal::Terminal;

/// What is deployed; the first of a push counts.
const DEPLOYED: [&str; 2] = ["refs/heads/master", "refs/heads/main"];
const NOTHING_TO_DEPLOY: &str =
    "The push must include a change to the master branch to be deployed.";
/// Most bytes of the list of refs that are read: some ten thousand.
const MAX_LIST: u64 = 4 << 20;

/// Why a push is rejected.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// The person was told already.
    Told,
    /// What to tell.
    Because(String),
}

impl From<ReceiveError> for Rejected {
    fn from(error: ReceiveError) -> Self {
        Self::Because(crate::server::chain(&error))
    }
}

impl From<GitError> for Rejected {
    fn from(error: GitError) -> Self {
        Self::Because(crate::server::chain(&error))
    }
}

/// One ref of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Update {
    old: String,
    new: String,
    name: String,
}

impl Update {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(str::to_owned);
        let update = Self { old: words.next()?, new: words.next()?, name: words.next()? };
        let is_id = |text: &str| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        (is_id(&update.old) && is_id(&update.new)).then_some(update)
    }

    fn deletes(&self) -> bool {
        self.new.bytes().all(|byte| byte == b'0')
    }

    fn creates(&self) -> bool {
        self.old.bytes().all(|byte| byte == b'0')
    }
}

/// Deploys what was pushed; an error rejects the push.
pub(crate) async fn run(settings: &Settings, terminal: &mut Terminal) -> Result<(), Rejected> {
    let mut list = String::new();
    let read = tokio::io::stdin().take(MAX_LIST).read_to_string(&mut list).await;
    read.map_err(|error| Rejected::Because(format!("git's list of refs cannot be read: {error}")))?;
    let updates = list.lines().filter_map(Update::parse);
    let Some(update) = updates.into_iter().find(|update| DEPLOYED.contains(&update.name.as_str()))
    else {
        terminal.say_bare(NOTHING_TO_DEPLOY).await;
        return Err(Rejected::Told);
    };
    let branch = update.name.trim_start_matches("refs/heads/");
    if update.deletes() {
        return because(format!("the {branch} branch is what is deployed and cannot be deleted"));
    }
    let git = git_of_hook()?;
    if !is_still_there(&git, &update).await {
        let text = "was changed by another push meanwhile: fetch it and push again";
        return because(format!("the {branch} branch {text}"));
    }
    let time = check_out(&git, &update.new).await?;
    let app = std::env::var("RECEIVE_APP").unwrap_or_default();
    let meta = [("git", "true"), ("git.commit", update.new.as_str())];
    let order = Order {
        app,
        revision: update.new.clone(),
        env: BTreeMap::new(),
        meta: meta.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    let source = Source::Tree { directory: git.directory.clone(), time };
    receiver::receive(settings, order, source, terminal).await.map_err(Rejected::from)
}

fn because(text: String) -> Result<(), Rejected> {
    Err(Rejected::Because(text))
}

/// git for the working copy around the repository the hook was started in.
fn git_of_hook() -> Result<Git, Rejected> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let here = std::env::current_dir().ok();
    let directory = here.as_deref().and_then(Path::parent).map(Path::to_owned);
    let directory = directory.ok_or_else(|| Rejected::Because("no repository here".to_owned()))?;
    Ok(Git {
        directory,
        config: variable("GIT_CONFIG_GLOBAL").into(),
        protocols: variable("GIT_ALLOW_PROTOCOL"),
        path: variable("PATH"),
    })
}

/// git checks this only after the hook: it would be too late for a build.
async fn is_still_there(git: &Git, update: &Update) -> bool {
    let found = git.output(&["rev-parse", "--verify", "--quiet", &update.name]).await;
    match found {
        Ok(id) => String::from_utf8_lossy(&id).trim() == update.old,
        Err(_) => update.creates(),
    }
}

/// Puts the revision and its submodules into the working copy; gives the time of the commit.
async fn check_out(git: &Git, revision: &str) -> Result<u64, Rejected> {
    // An index of an earlier push would tell of files that are not here.
    drop(std::fs::remove_file(git.directory.join(".git/index")));
    quarantined(git, &["read-tree", "-u", "--reset", revision]).await?;
    if git.directory.join(".gitmodules").is_file() {
        quarantined(git, &["submodule", "--quiet", "sync", "--recursive"]).await?;
        let update =
            ["submodule", "--quiet", "update", "--force", "--init", "--checkout", "--recursive"];
        quarantined(git, &update).await?;
    }
    let time = quarantined(git, &["show", "-s", "--format=%ct", revision]).await?;
    // Times before the epoch exist in old histories.
    Ok(String::from_utf8_lossy(&time).trim().parse().unwrap_or(0))
}

/// Runs git with the objects that this push brought and that are not yet part of the repository. It may
/// write: GIT_QUARANTINE_PATH, which forbids that, is left behind.
async fn quarantined(git: &Git, args: &[&str]) -> Result<Vec<u8>, GitError> {
    let mut command = git.command(args);
    for name in ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    git.finish(args, command).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_git_are_updates_and_nothing_else_is() {
        let (a, zero) = ("a".repeat(40), "0".repeat(40));
        let update = Update::parse(&format!("{zero} {a} refs/heads/master")).unwrap();
        assert!(update.creates() && !update.deletes());
        assert!(Update::parse(&format!("{a} {zero} refs/heads/x")).unwrap().deletes());
        for odd in ["", "a b c", &format!("{a} {a}"), &format!("--x {a} r")] {
            assert_eq!(Update::parse(odd), None, "{odd}");
        }
    }
}
