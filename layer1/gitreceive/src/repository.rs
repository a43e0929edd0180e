//! An app's repository: unpacked from the blob store into a directory of this request, stored again only
//! if nobody else stored another meanwhile. When somebody did, both pushes' refs are kept.

use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use kit_http::ClientError;
use kit_ids::AppId;
use kit_units::Bytes;
use tempfile::TempDir;

use crate::archive::{self, Archive, Style};
use crate::blobs::{Blobs, Stored, Version};
use crate::git::{Git, GitError};
use crate::pipe;
use crate::places::Places;

/// How often a store that met another one is tried again.
const MAX_TRIES: usize = 5;
const SILENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a repository cannot be had or stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    /// The blob store does not answer as it should.
    #[error("the blob store failed")]
    Blobs(#[from] ClientError),
    /// The disk does not.
    #[error("the working copy failed")]
    Disk(#[from] std::io::Error),
    /// git does not.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Others store this repository all the time.
    #[error("the repository was replaced by others {MAX_TRIES} times")]
    Contended,
}

/// A working copy.
#[derive(Debug)]
pub(crate) struct Repository {
    app: AppId,
    seen: Version,
    refs: Vec<(String, String)>,
    pub(crate) git: Git,
    _directory: TempDir,
}

/// What is needed to have one.
#[derive(Clone, Debug)]
pub(crate) struct Repositories {
    pub(crate) places: Places,
    pub(crate) blobs: Blobs,
    pub(crate) limit: Bytes,
}

impl Repository {
    /// Whose it is.
    pub(crate) fn app(&self) -> &AppId {
        &self.app
    }
}

impl Repositories {
    /// The app's repository as it is stored, or a new one.
    pub(crate) async fn open(&self, app: &AppId) -> Result<Repository, RepositoryError> {
        let directory = self.places.working_copy()?;
        let git = self.places.git(directory.path());
        let seen = match self.blobs.get(&blob(app)).await? {
            None => {
                git.output(&["init", "--quiet"]).await?;
                Version::Missing
            }
            Some((version, response)) => {
                unpack(response, directory.path().to_owned(), self.limit).await?;
                version
            }
        };
        let refs = git.refs().await?;
        Ok(Repository { app: app.clone(), seen, refs, git, _directory: directory })
    }

    /// Stores the repository, if its refs are others than when it was opened.
    pub(crate) async fn store(&self, repository: Repository) -> Result<(), RepositoryError> {
        let changes = changes(&repository.refs, &repository.git.refs().await?);
        if changes.is_empty() {
            return Ok(());
        }
        let mut latest = repository;
        // The first one stays on disk: its objects are what later tries take.
        let mut pushed: Option<Repository> = None;
        for _ in 0..MAX_TRIES {
            match self.replace(&latest).await? {
                Stored::Yes => return Ok(()),
                Stored::Conflict => {
                    tracing::info!(app = %latest.app, "another push stored the repository, taking both");
                    let newer = self.open(&latest.app).await?;
                    let from = pushed.get_or_insert(std::mem::replace(&mut latest, newer));
                    apply(&changes, from, &latest.git).await?;
                }
            }
        }
        Err(RepositoryError::Contended)
    }

    async fn replace(&self, repository: &Repository) -> Result<Stored, RepositoryError> {
        let (writer, pieces) = pipe::writer();
        let directory = repository.git.directory.clone();
        let packing = tokio::task::spawn_blocking(move || pack(&directory, writer));
        let stored = self.blobs.put(&blob(&repository.app), pieces, &repository.seen).await;
        // A store that said no early leaves a packer that has nobody to write to: its error is ours only
        // when the store has none.
        let packed = packing.await.map_err(std::io::Error::other)?;
        match stored? {
            Stored::Yes => Ok(packed.map(|()| Stored::Yes)?),
            Stored::Conflict => Ok(Stored::Conflict),
        }
    }
}

fn blob(app: &AppId) -> String {
    format!("/repos/{app}.tar")
}

async fn unpack(
    response: kit_http::Response,
    directory: PathBuf,
    limit: Bytes,
) -> Result<(), RepositoryError> {
    let (feeder, reader) = pipe::reader();
    let unpacking =
        tokio::task::spawn_blocking(move || archive::unpack(reader, &directory, limit.0));
    let mut pieces = Box::pin(response.into_stream(Some(SILENCE)));
    while let Some(piece) = pieces.next().await {
        if !feeder.feed(piece?).await {
            break;
        }
    }
    feeder.finish().await;
    Ok(unpacking.await.map_err(std::io::Error::other)??)
}

/// Hooks are ours and made anew, locks belong to the git that held them.
fn pack(directory: &Path, writer: pipe::PipeWriter) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory.join(".git/hooks")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // No ref can have such a name.
    let leaves_out =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.ends_with(".lock"));
    let style = Style { leaves_out: &leaves_out, time: None, plain_modes: false };
    let mut archive = Archive::new(writer);
    archive.add_tree(&directory.join(".git"), b".git/", style)?;
    archive.finish()?.finish()
}

/// What a push did to one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Set(String),
    Deleted(String),
}

fn changes(before: &[(String, String)], after: &[(String, String)]) -> Vec<Change> {
    let set = after.iter().filter(|pair| !before.contains(pair));
    let gone = before.iter().filter(|(name, _)| after.iter().all(|(other, _)| other != name));
    set.map(|(name, _)| Change::Set(name.clone()))
        .chain(gone.map(|(name, _)| Change::Deleted(name.clone())))
        .collect()
}

/// Does again, in a newer copy, what a push did to the refs.
async fn apply(changes: &[Change], from: &Repository, to: &Git) -> Result<(), GitError> {
    let mut set = Vec::new();
    for change in changes {
        match change {
            Change::Set(name) => set.push(name.clone()),
            Change::Deleted(name) => drop(to.output(&["update-ref", "-d", name]).await?),
        }
    }
    if set.is_empty() { Ok(()) } else { to.take_refs(&from.git.directory, &set).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_push_did_to_refs_is_a_change() {
        let refs = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
        };
        let before = refs(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = refs(&[("a", "1"), ("b", "2"), ("d", "3")]);
        let want = [Change::Set("b".into()), Change::Set("d".into()), Change::Deleted("c".into())];
        assert_eq!(changes(&before, &after), want);
        assert_eq!(changes(&before, &before), []);
    }
}
