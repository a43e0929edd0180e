//! Folders into tar streams, tar streams into squashfs layers. The same files always give the same
//! layer: sorted, without times, with one owner.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit_artifact::{Layer, LayerDigest};
use tar::{Builder, EntryType, Header};

use crate::config::User;

/// The most memory sqfstar may queue blocks in, MB: the build's limit is for the app's tools.
const QUEUE: &str = "128M";

/// A folder as it is to stand in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Tree<'a> {
    /// The folder on this disk; links to it are followed, links in it are not.
    pub folder: &'a Path,
    /// What it is called in the archive; empty: only what is in it.
    pub name: &'a str,
    pub owner: User,
    pub times: Times,
}

/// What becomes of modification times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// All zero, so that equal files make equal archives.
    Zero,
    /// Kept: a cache is used by tools that look at them.
    Kept,
}

/// A small file that is made here.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    /// Where in the archive; its folders are made.
    pub path: &'static str,
    pub text: String,
}

/// A layer's file and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub file: PathBuf,
    pub layer: Layer,
}

/// Makes a squashfs layer of a folder and some files.
pub(crate) fn layer(tree: &Tree<'_>, extras: &[Extra], file: PathBuf) -> io::Result<Packed> {
    // sqfstar adds to a file that is there.
    drop(fs::remove_file(&file));
    let mut sqfstar = Command::new("sqfstar")
        .args(["-comp", "lz4", "-no-progress", "-quiet", "-mem", QUEUE])
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start sqfstar: {error}")))?;
    let written = match sqfstar.stdin.take() {
        Some(stdin) => archive(tree, extras, BufWriter::with_capacity(256 << 10, stdin)),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let ended = sqfstar.wait_with_output()?;
    if !ended.status.success() {
        let words = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        return Err(io::Error::other(format!("sqfstar failed ({}): {words}", ended.status)));
    }
    written?;
    Ok(Packed { layer: digest(&file)?, file })
}

/// Writes a tar stream with its end mark.
pub(crate) fn archive(tree: &Tree<'_>, extras: &[Extra], to: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    builder.follow_symlinks(false);
    let mut writer = Writer { builder, tree };
    for folder in parents(tree.name) {
        writer.made_folder(folder)?;
    }
    writer.folder(&tree.folder.canonicalize()?, Path::new(tree.name))?;
    for extra in extras {
        for folder in parents(extra.path) {
            writer.made_folder(folder)?;
        }
        writer.made_file(extra)?;
    }
    writer.builder.into_inner()?.flush()
}

/// `a` and `a/b` of `a/b/c`.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

struct Writer<'a, W: Write> {
    builder: Builder<W>,
    tree: &'a Tree<'a>,
}

impl<W: Write> Writer<'_, W> {
    /// A folder and what is in it, sorted by the bytes of names.
    fn folder(&mut self, folder: &Path, name: &Path) -> io::Result<()> {
        if !name.as_os_str().is_empty() {
            let mut header = self.header(&fs::symlink_metadata(folder)?);
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            self.builder.append_data(&mut header, slashed(name), io::empty())?;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name());
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for entry in names {
            self.entry(&folder.join(&entry), &name.join(&entry))?;
        }
        Ok(())
    }

    /// Sockets, pipes and devices are left out: they mean nothing in another place.
    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.folder(path, name);
        }
        let mut header = self.header(&metadata);
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            return self.builder.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            // Exactly as long as said, whatever happens to the file meanwhile.
            let bytes = File::open(path)?.chain(io::repeat(0)).take(metadata.len());
            return self.builder.append_data(&mut header, name, bytes);
        }
        Ok(())
    }

    fn header(&self, metadata: &Metadata) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(metadata.permissions().mode() & 0o777);
        header.set_uid(self.tree.owner.uid.into());
        header.set_gid(self.tree.owner.gid.into());
        header.set_mtime(match self.tree.times {
            Times::Zero => 0,
            Times::Kept => u64::try_from(metadata.mtime()).unwrap_or(0),
        });
        header
    }

    fn made_folder(&mut self, name: &str) -> io::Result<()> {
        let mut header = made(EntryType::Directory, 0o755, 0);
        self.builder.append_data(&mut header, slashed(Path::new(name)), io::empty())
    }

    fn made_file(&mut self, extra: &Extra) -> io::Result<()> {
        let mut header = made(EntryType::Regular, 0o644, extra.text.len());
        self.builder.append_data(&mut header, extra.path, extra.text.as_bytes())
    }
}

/// The header of something that belongs to the system.
fn made(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn slashed(name: &Path) -> PathBuf {
    let mut slashed = name.as_os_str().to_owned();
    slashed.push(OsStr::new("/"));
    PathBuf::from(slashed)
}

fn digest(file: &Path) -> io::Result<Layer> {
    let (mut file, mut digest) = (File::open(file)?, LayerDigest::new());
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(digest.finish());
        }
        digest.update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn sample(root: &Path, order: &[&str]) {
        fs::create_dir_all(root.join("b/deep")).unwrap();
        for name in order {
            fs::write(root.join(name), format!("of {name}")).unwrap();
        }
        symlink("b/one", root.join("link")).unwrap();
        symlink("/gone", root.join("b/dangling")).unwrap();
        let long = "x".repeat(120);
        fs::write(root.join("b/deep").join(&long), long).unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
    }

    fn tree(folder: &Path) -> Tree<'_> {
        Tree { folder, name: "app", owner: User::FLYNN, times: Times::Zero }
    }

    #[test]
    fn equal_files_make_equal_layers() {
        let dir = tempfile::tempdir().unwrap();
        let extras = [Extra { path: "etc/passwd", text: "flynn\n".to_owned() }];
        let ids = [["a", "b/one", "c"], ["c", "a", "b/one"]].map(|order| {
            let root = dir.path().join(order[0]);
            sample(&root, &order);
            let file = dir.path().join(format!("{}.squashfs", order[0]));
            layer(&tree(&root), &extras, file).unwrap().layer.id
        });
        assert_eq!(ids[0], ids[1]);
        fs::write(dir.path().join("a/a"), "other").unwrap();
        let file = dir.path().join("a.squashfs");
        let changed = layer(&tree(&dir.path().join("a")), &extras, file).unwrap();
        assert_ne!(changed.layer.id, ids[0]);
        assert_eq!(changed.layer.length, fs::metadata(&changed.file).unwrap().len());
    }

    #[test]
    fn archives_are_sorted_and_belong_to_the_app() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path(), &["a", "b/one", "a-"]);
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap());
        let extras = [Extra { path: "etc/group", text: String::new() }];
        let mut bytes = Vec::new();
        archive(&tree(dir.path()), &extras, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 0);
            assert_eq!(header.mode().unwrap() & 0o7000, 0);
            found.push((entry.path().unwrap().display().to_string(), header.uid().unwrap()));
        }
        let long = format!("app/b/deep/{}", "x".repeat(120));
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "app/",
                "app/a",
                "app/a-",
                "app/b/",
                "app/b/dangling",
                "app/b/deep/",
                &long,
                "app/b/one",
                "app/link",
                "etc/",
                "etc/group",
            ]
        );
        let system = found.iter().filter(|(_, uid)| *uid == 0).count();
        assert_eq!(system, 2, "etc and what is in it");
    }
}
