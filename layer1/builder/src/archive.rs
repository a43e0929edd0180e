//! Unpacking tar streams that strangers made: nothing is written outside the folder, nothing through a
//! link, and not more than allowed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub bytes: u64,
    pub entries: u64,
}

/// Where symbolic links may point. They are never followed here, whatever they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Into the archive only: a source is complete by itself.
    Inside,
    /// Anywhere, as in a cache: it has links into the system, such as an environment's interpreter, and
    /// its files keep their times.
    Anywhere,
}

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} in the archive leads out of it", .0.display())]
    Outside(PathBuf),
    #[error("{} points out of the archive, to {}", .path.display(), .target.display())]
    LinkOutside { path: PathBuf, target: PathBuf },
    #[error("{} in the archive lies behind a link", .0.display())]
    ThroughLink(PathBuf),
    #[error("{} is there twice, as a folder and as something else", .0.display())]
    Twice(PathBuf),
    #[error("the archive holds more than {0} bytes")]
    TooLarge(u64),
    #[error("the archive holds more than {0} files")]
    TooMany(u64),
}

/// Unpacks a tar stream into `root`, an existing folder. Owners are not kept, times only those of a
/// cache; devices and pipes are left out.
pub(crate) fn unpack(
    tar: impl Read,
    root: &Path,
    limits: Limits,
    links: Links,
) -> Result<(), ArchiveError> {
    let mut target = Target { root, known: BTreeSet::new(), links, left: limits.bytes, limits };
    let mut archive = Archive::new(tar);
    let mut count = 0;
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        count += 1;
        if count > limits.entries {
            return Err(ArchiveError::TooMany(limits.entries));
        }
        target.place(&mut entry.map_err(ArchiveError::Read)?)?;
    }
    // What follows the end mark is read too, so that the writer meets no closed pipe.
    io::copy(&mut archive.into_inner().take(limits.bytes), &mut io::sink())
        .map_err(ArchiveError::Read)?;
    Ok(())
}

struct Target<'a> {
    root: &'a Path,
    /// Folders known to be folders, not links; none is ever replaced.
    known: BTreeSet<PathBuf>,
    links: Links,
    left: u64,
    limits: Limits,
}

impl Target<'_> {
    fn place(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        let path = entry.path().map_err(ArchiveError::Read)?.into_owned();
        let is_entry = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        // Headers that describe other entries or the whole archive, and devices.
        if !is_entry && kind != EntryType::Continuous {
            return Ok(());
        }
        let relative = cleaned(&path).ok_or_else(|| ArchiveError::Outside(path.clone()))?;
        if relative.as_os_str().is_empty() {
            return Ok(());
        }
        if kind.is_dir() {
            return self.folder(&relative);
        }
        if let Some(parent) = relative.parent() {
            self.folder(parent)?;
        }
        let at = self.clear(&relative)?;
        if kind.is_symlink() || kind.is_hard_link() {
            let to = entry.link_name().map_err(ArchiveError::Read)?.unwrap_or_default();
            return if kind.is_symlink() {
                self.symbolic(&relative, &at, &to)
            } else {
                self.hard(&path, &at, &to)
            };
        }
        self.file(&at, entry)
    }

    /// Makes sure that a folder and all above it are folders.
    fn folder(&mut self, relative: &Path) -> Result<(), ArchiveError> {
        if relative.as_os_str().is_empty() || self.known.contains(relative) {
            return Ok(());
        }
        if let Some(parent) = relative.parent() {
            self.folder(parent)?;
        }
        let at = self.root.join(relative);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(ArchiveError::ThroughLink(relative.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&at).map_err(|source| write_error(&at, source))?;
                set_mode(&at, 0o755)?;
            }
            Err(source) => return Err(write_error(&at, source)),
        }
        self.known.insert(relative.to_owned());
        Ok(())
    }

    /// A free place for a file or link; what stood there before goes.
    fn clear(&self, relative: &Path) -> Result<PathBuf, ArchiveError> {
        let at = self.root.join(relative);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => Err(ArchiveError::Twice(relative.to_owned())),
            Ok(_) => fs::remove_file(&at).map(|()| at.clone()).map_err(|e| write_error(&at, e)),
            Err(_) => Ok(at),
        }
    }

    fn file(&mut self, at: &Path, entry: &mut Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let too_large = ArchiveError::TooLarge(self.limits.bytes);
        if entry.size() > self.left {
            return Err(too_large);
        }
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777 | 0o600;
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).mode(mode).open(at);
        let mut file = created.map_err(|source| write_error(at, source))?;
        let written = copy(entry, &mut file, at, self.left)?.ok_or(too_large)?;
        self.left -= written;
        if self.links == Links::Anywhere {
            let mtime = Duration::from_secs(entry.header().mtime().unwrap_or(0));
            // Tools compare times of what they cached; a time out of range is no reason to fail.
            drop(file.set_modified(SystemTime::UNIX_EPOCH + mtime));
        }
        // The mode asked for, whatever this process's mask.
        set_mode(at, mode)
    }

    fn symbolic(&self, relative: &Path, at: &Path, to: &Path) -> Result<(), ArchiveError> {
        let folder = relative.parent().unwrap_or(Path::new(""));
        let is_inside = !to.is_absolute() && cleaned_below(folder, to).is_some();
        if self.links == Links::Inside && !is_inside {
            let (path, target) = (relative.to_owned(), to.to_owned());
            return Err(ArchiveError::LinkOutside { path, target });
        }
        symlink(to, at).map_err(|source| write_error(at, source))
    }

    /// A second name for a file that came before.
    fn hard(&mut self, path: &Path, at: &Path, to: &Path) -> Result<(), ArchiveError> {
        let outside = || ArchiveError::LinkOutside { path: path.to_owned(), target: to.to_owned() };
        let original = cleaned(to).ok_or_else(outside)?;
        if let Some(parent) = original.parent() {
            self.folder(parent)?;
        }
        let original = self.root.join(original);
        let is_file = fs::symlink_metadata(&original).is_ok_and(|found| found.is_file());
        if !is_file {
            return Err(outside());
        }
        fs::hard_link(&original, at).map_err(|source| write_error(at, source))
    }
}

/// Copies at most `limit` bytes; None when there are more.
fn copy(
    entry: &mut Entry<'_, impl Read>,
    file: &mut File,
    at: &Path,
    limit: u64,
) -> Result<Option<u64>, ArchiveError> {
    let (mut buffer, mut written) = (vec![0; 64 << 10], 0_u64);
    loop {
        let count = entry.read(&mut buffer).map_err(ArchiveError::Read)?;
        if count == 0 {
            return Ok(Some(written));
        }
        written += count as u64;
        if written > limit {
            return Ok(None);
        }
        io::Write::write_all(file, &buffer[..count]).map_err(|source| write_error(at, source))?;
    }
}

fn set_mode(at: &Path, mode: u32) -> Result<(), ArchiveError> {
    fs::set_permissions(at, Permissions::from_mode(mode)).map_err(|source| write_error(at, source))
}

fn write_error(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Write { path: path.to_owned(), source }
}

/// A relative path without `.` and `..`; None for what is absolute or leads upwards.
fn cleaned(path: &Path) -> Option<PathBuf> {
    let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let parts: Vec<_> = path.components().collect();
    let normal = |part: &Component<'_>| match part {
        Component::Normal(name) => Some(OsString::from(name)),
        Component::CurDir | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
            None
        }
    };
    parts.iter().all(is_plain).then(|| parts.iter().filter_map(normal).collect())
}

/// Where a link in `folder` leads, by its text alone; None when that is outside.
fn cleaned_below(folder: &Path, to: &Path) -> Option<PathBuf> {
    let mut at = folder.to_owned();
    for part in to.components() {
        match part {
            Component::Normal(name) => at.push(name),
            Component::CurDir => {}
            Component::ParentDir if at.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tar::{Builder, Header};

    const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 100 };

    enum Made<'a> {
        File(&'a str, &'a str),
        Folder(&'a str),
        Link(&'a str, &'a str),
        Hard(&'a str, &'a str),
    }
    use Made::{File as F, Folder as D, Hard as H, Link as L};

    /// A tar whose names are written as they are, which the tar crate's own writer refuses.
    fn tar(entries: &[Made<'_>]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for entry in entries {
            let (kind, name, to, data) = match entry {
                F(name, data) => (EntryType::Regular, name, "", *data),
                D(name) => (EntryType::Directory, name, "", ""),
                L(name, to) => (EntryType::Symlink, name, *to, ""),
                H(name, to) => (EntryType::Link, name, *to, ""),
            };
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o4755);
            header.set_size(data.len() as u64);
            let fields = header.as_gnu_mut().unwrap();
            fields.name[..name.len()].copy_from_slice(name.as_bytes());
            fields.linkname[..to.len()].copy_from_slice(to.as_bytes());
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn check(entries: &[Made<'_>], links: Links) -> Result<(tempfile::TempDir, PathBuf), String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let result = unpack(tar(entries).as_slice(), &root, LIMITS, links);
        let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(outside.len(), 1, "something was written outside");
        result.map(|()| (dir, root)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_tree_comes_out_as_it_went_in() {
        let entries = [
            D("./"),
            F("./a/b.txt", "one"),
            L("a/up", "../c"),
            L("current", "a/b.txt"),
            H("c", "a/b.txt"),
            F("a/b.txt", "two"),
            D("empty/"),
        ];
        let (_dir, root) = check(&entries, Links::Inside).unwrap();
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!((text("a/b.txt").as_str(), text("c").as_str()), ("two", "one"));
        assert_eq!(text("current"), "two");
        assert!(root.join("empty").is_dir());
        let mode = fs::metadata(root.join("c")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-uid bit comes from outside");
    }

    #[test]
    fn nothing_leads_out() {
        for (entries, want) in [
            (vec![F("/etc/x", "")], "/etc/x in the archive leads out of it"),
            (vec![F("a/../../x", "")], "a/../../x in the archive leads out of it"),
            (vec![L("a", "/etc")], "a points out of the archive, to /etc"),
            (vec![L("d/a", "../../x")], "d/a points out of the archive, to ../../x"),
            (vec![H("a", "../x")], "a points out of the archive, to ../x"),
            (vec![H("a", "/etc/passwd")], "a points out of the archive, to /etc/passwd"),
            (vec![H("a", "missing")], "a points out of the archive, to missing"),
            (vec![D("d"), L("a", "d"), F("a/x", "")], "a in the archive lies behind a link"),
            (vec![D("d"), L("a", "d"), D("a")], "a in the archive lies behind a link"),
            (vec![F("d/x", ""), L("a", "d"), H("h", "a/x")], "a in the archive lies behind a link"),
            (vec![L("a", "b"), H("h", "a")], "h points out of the archive, to a"),
            (vec![D("d"), F("d", "")], "d is there twice, as a folder and as something else"),
        ] {
            assert_eq!(check(&entries, Links::Inside).unwrap_err(), want);
        }
    }

    #[test]
    fn links_of_a_cache_may_point_anywhere_but_are_not_followed() {
        check(&[L("python", "/usr/bin/python3")], Links::Anywhere).unwrap();
        let (_dir, root) = check(&[L("a", "../x"), F("a", "mine")], Links::Anywhere).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "mine");
        assert!(check(&[L("a", ".."), F("a/x", "")], Links::Anywhere).is_err());
    }

    #[test]
    fn size_and_number_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let archive = tar(&[F("a", "0123456789"), F("b", "0123456789")]);
        let run = |bytes, entries| {
            let limits = Limits { bytes, entries };
            let result = unpack(archive.as_slice(), dir.path(), limits, Links::Inside);
            result.map_err(|error| error.to_string())
        };
        assert_eq!(run(20, 2), Ok(()));
        assert_eq!(run(19, 2), Err("the archive holds more than 19 bytes".into()));
        assert_eq!(run(20, 1), Err("the archive holds more than 1 files".into()));
        let cut = unpack(&archive[..700], dir.path(), LIMITS, Links::Inside);
        assert_eq!(cut.unwrap_err().to_string(), "the archive cannot be read");
    }

    proptest! {
        #[test]
        fn whatever_an_archive_holds_stays_inside(
            entries in proptest::collection::vec(
                (0..4_u8, "(\\.\\.|a|b|\\.|/)(/(\\.\\.|a|b|c)){0,3}", "(/|\\.\\./){0,2}(a|b|c)(/(\\.\\.|a|b)){0,3}"),
                1..12,
            ),
            anywhere in any::<bool>(),
        ) {
            let made: Vec<_> = entries.iter().map(|(kind, name, to)| match kind {
                0 => F(name, "data"),
                1 => D(name),
                2 => L(name, to),
                _ => H(name, to),
            }).collect();
            // `check` asserts that nothing is outside.
            let links = if anywhere { Links::Anywhere } else { Links::Inside };
            drop(check(&made, links));
        }
    }
}
