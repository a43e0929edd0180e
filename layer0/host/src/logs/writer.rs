//! The writing side: appends messages to an app's file, rotates it, keeps the whole folder bounded, and
//! wakes those who follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SubsecRound as _, Utc};
use host_api::frame::Stream;
use kit_ids::AppId;
use kit_units::Bytes;
use tokio::sync::watch;

use super::record::{self, Origin, Position};
use super::tail::{Start, Tail};

/// File name of jobs that belong to no app.
const NO_APP: &str = "no-app";
/// The end of a file that holds its last message.
const LAST: u64 = 32 * 1024;
/// Length of an app's id.
const APP_ID: usize = 36;

/// All logs of the host.
#[derive(Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    file_bound: u64,
    total_bound: u64,
    inner: Mutex<Inner>,
    /// The newest line of all.
    newest: watch::Sender<Option<Position>>,
}

#[derive(Debug)]
struct Inner {
    open: BTreeMap<String, AppLog>,
    /// Apps with files, by the names of those, and the newest line of each that this daemon wrote.
    heads: BTreeMap<String, Option<Position>>,
}

#[derive(Debug)]
struct AppLog {
    /// Closed while nobody writes.
    file: Option<(File, u64)>,
    written: watch::Sender<u64>,
}

impl Logs {
    pub(crate) fn open(dir: PathBuf, file_bound: Bytes, total_bound: Bytes) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let heads: BTreeMap<_, _> = apps_in(&dir)?.into_iter().map(|stem| (stem, None)).collect();
        let mut newest = None;
        for stem in heads.keys() {
            newest = newest.max(last_position(&dir, stem)?);
        }
        let inner = Mutex::new(Inner { open: BTreeMap::new(), heads });
        let (file_bound, total_bound) = (file_bound.0, total_bound.0);
        Ok(Self { dir, file_bound, total_bound, inner, newest: watch::Sender::new(newest) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends one line. It is in the file when this returns; followers are woken.
    pub(crate) fn append(
        &self,
        origin: &Origin,
        now: DateTime<Utc>,
        stream: Stream,
        (end, body): (u64, Vec<u8>),
    ) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let position = next_position(*self.newest.borrow(), now);
        let name = file_stem(origin.app.as_ref());
        let framed = record::encode(origin, position, (stream, end, body));
        let log = inner.open.entry(name.clone()).or_insert_with(AppLog::new);
        self.write(&name, log, &framed, now)?;
        log.written.send_replace(position.seq);
        if origin.app.is_some() {
            inner.heads.insert(name, Some(position));
        }
        self.newest.send_replace(Some(position));
        Ok(())
    }

    /// The newest line of all, of this daemon or an earlier one.
    pub(crate) fn newest(&self) -> Option<Position> {
        *self.newest.borrow()
    }

    /// Changes whenever a line was written.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Position>> {
        self.newest.subscribe()
    }

    /// The newest line of all, and of each app that has files; all of them are in the files.
    pub(super) fn heads(&self) -> (Option<Position>, Vec<(String, Option<Position>)>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let heads = inner.heads.iter().map(|(stem, head)| (stem.clone(), *head)).collect();
        (*self.newest.borrow(), heads)
    }

    /// Changes whenever a line of the app was written.
    pub(crate) fn follow(&self, app: Option<&AppId>) -> watch::Receiver<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.open.entry(file_stem(app)).or_insert_with(AppLog::new).written.subscribe()
    }

    /// Closes files nobody writes or follows.
    pub(crate) fn close_idle(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.open.retain(|_, log| log.written.receiver_count() > 0);
    }

    fn write(
        &self,
        name: &str,
        log: &mut AppLog,
        framed: &[u8],
        now: DateTime<Utc>,
    ) -> io::Result<()> {
        let path = self.dir.join(format!("{name}.log"));
        if log.file.is_none() {
            log.file = Some(open_at_end(&path)?);
        }
        if log.file.as_ref().is_some_and(|(_, size)| size + framed.len() as u64 > self.file_bound) {
            log.file = None;
            self.rotate(name, &path, now)?;
            log.file = Some(open_at_end(&path)?);
        }
        if let Some((file, size)) = &mut log.file {
            if let Err(error) = file.write_all(framed) {
                // Half of it may be there: the next message begins on a line of its own.
                log.file = None;
                return Err(error);
            }
            *size += framed.len() as u64;
        }
        Ok(())
    }

    /// The file becomes the app's one backup.
    fn rotate(&self, name: &str, path: &Path, now: DateTime<Utc>) -> io::Result<()> {
        for old in files_of(&self.dir, name).into_iter().filter(|old| old != path) {
            fs::remove_file(old)?;
        }
        let stamp = now.format("%Y-%m-%dT%H-%M-%S%.6f");
        fs::rename(path, self.dir.join(format!("{name}-{stamp}.log")))?;
        self.enforce_total(path)
    }

    /// The longest unwritten files of other apps go first.
    fn enforce_total(&self, keep: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            if let Ok(about) = entry.metadata() {
                files.push((about.modified()?, about.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total <= self.total_bound {
                break;
            }
            if path != keep {
                fs::remove_file(&path)?;
                total = total.saturating_sub(size);
            }
        }
        Ok(())
    }
}

impl AppLog {
    fn new() -> Self {
        Self { file: None, written: watch::Sender::new(0) }
    }
}

/// The app's files, oldest first, the current one last.
pub(super) fn files_of(dir: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let (prefix, current) = (format!("{name}-"), format!("{name}.log"));
    let mut names: Vec<_> =
        names.filter(|file| *file == current || file.starts_with(&prefix)).collect();
    names.sort_by_key(|file| (*file == current, file.clone()));
    names.into_iter().map(|file| dir.join(file)).collect()
}

pub(super) fn file_stem(app: Option<&AppId>) -> String {
    app.map_or_else(|| NO_APP.to_owned(), ToString::to_string)
}

/// Numbers go on, times never go back: both stand in what receivers remember.
fn next_position(newest: Option<Position>, now: DateTime<Utc>) -> Position {
    let now = now.trunc_subsecs(6);
    newest.map_or(Position { time: now, seq: 1 }, |newest| Position {
        time: now.max(newest.time),
        seq: newest.seq + 1,
    })
}

/// The apps that have files in the folder, as their files are named.
fn apps_in(dir: &Path) -> io::Result<BTreeSet<String>> {
    let names =
        fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let app = |name: String| {
        let stem = name.strip_suffix(".log")?.get(..APP_ID)?;
        stem.parse::<AppId>().ok().map(|app| app.to_string())
    };
    Ok(names.filter_map(app).collect())
}

/// The last whole message of an app.
fn last_position(dir: &Path, stem: &str) -> io::Result<Option<Position>> {
    let mut tail = Tail::open(dir, stem, Start::Recent(LAST))?;
    let mut last = None;
    while tail.read(&mut |line| last = last.max(Position::parse(line)))? {}
    Ok(last)
}

/// A power cut can leave half a message at the end; the next one begins on a line of its own.
fn open_at_end(path: &Path) -> io::Result<(File, u64)> {
    let mut file =
        fs::OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, size - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}
