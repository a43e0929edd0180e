//! Trees as tar streams, names byte for byte as they are: a name with a line break or one that is no
//! UTF-8, and a link to anywhere, come out as they went in. What is left out, and which times and modes
//! are written, is the caller's.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// The longest name a header has room for.
const NAME: usize = 100;
const LONG_NAME: &[u8] = b"././@LongLink";

/// What a tree looks like in its archive.
#[derive(Clone, Copy)]
pub(crate) struct Style<'a> {
    /// Whether a file or directory of this name is left out, wherever it is.
    pub(crate) leaves_out: &'a dyn Fn(&OsStr) -> bool,
    /// One time for all, seconds since the epoch; none for their own.
    pub(crate) time: Option<u64>,
    /// Modes are 755 for directories and what can be executed, else 644.
    pub(crate) plain_modes: bool,
}

/// Writes a tar stream.
pub(crate) struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds what is in `dir` below the name `prefix` (empty for the root), sorted by bytes.
    pub(crate) fn add_tree(
        &mut self,
        dir: &Path,
        prefix: &[u8],
        style: Style<'_>,
    ) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            if (style.leaves_out)(&file_name) {
                continue;
            }
            let name = [prefix, file_name.as_bytes()].concat();
            let metadata = fs::symlink_metadata(entry.path())?;
            self.add(&entry.path(), name, &metadata, style)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: &Path,
        mut name: Vec<u8>,
        metadata: &Metadata,
        style: Style<'_>,
    ) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            name.push(b'/');
            self.head(
                &name,
                b"",
                EntryType::Directory,
                0,
                mode(metadata, style),
                time(metadata, style),
            )?;
            self.add_tree(path, &name, style)
        } else if kind.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.as_os_str().as_bytes();
            self.head(&name, target, EntryType::Symlink, 0, 0o777, time(metadata, style))
        } else if kind.is_file() {
            let (mode, time) = (mode(metadata, style), time(metadata, style));
            self.head(&name, b"", EntryType::Regular, metadata.len(), mode, time)?;
            self.contents(File::open(path)?, metadata.len())
        } else {
            // Sockets and pipes are in no tree of git.
            Ok(())
        }
    }

    /// Adds a file from memory.
    pub(crate) fn add_file(&mut self, name: &[u8], bytes: &[u8], time: u64) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.head(name, b"", EntryType::Regular, length, 0o644, time)?;
        self.contents(bytes, length)
    }

    /// Adds what another archive holds, headers as they are.
    pub(crate) fn add_archive(&mut self, from: impl Read) -> io::Result<()> {
        let mut from = tar::Archive::new(from);
        for entry in from.entries()?.raw(true) {
            let entry = entry?;
            self.out.write_all(entry.header().as_bytes())?;
            let length = entry.header().entry_size()?;
            self.contents(entry, length)?;
        }
        Ok(())
    }

    /// The end of the archive; gives back where it was written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn head(
        &mut self,
        name: &[u8],
        link: &[u8],
        kind: EntryType,
        size: u64,
        mode: u32,
        time: u64,
    ) -> io::Result<()> {
        if link.len() > NAME {
            self.long(link, EntryType::GNULongLink)?;
        }
        if name.len() > NAME {
            self.long(name, EntryType::GNULongName)?;
        }
        let mut header = header(kind, name, size);
        let old = header.as_old_mut();
        let short = &link[..link.len().min(NAME)];
        old.linkname[..short.len()].copy_from_slice(short);
        header.set_mode(mode);
        header.set_mtime(time);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// The extension of GNU tar for a name that a header has no room for.
    fn long(&mut self, name: &[u8], kind: EntryType) -> io::Result<()> {
        let length = name.len() as u64 + 1;
        let mut header = header(kind, LONG_NAME, length);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.contents(name.chain(&b"\0"[..]), length)
    }

    fn contents(&mut self, from: impl Read, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut from.take(length), &mut self.out)?;
        if copied != length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file shrank while it was read",
            ));
        }
        let rest = (BLOCK - length % BLOCK) % BLOCK;
        io::copy(&mut io::repeat(0).take(rest), &mut self.out).map(drop)
    }
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    let short = &name[..name.len().min(NAME)];
    header.as_old_mut().name[..short.len()].copy_from_slice(short);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn mode(metadata: &Metadata, style: Style<'_>) -> u32 {
    let mode = metadata.permissions().mode() & 0o777;
    if !style.plain_modes {
        return mode;
    }
    if metadata.is_dir() || mode & 0o100 != 0 { 0o755 } else { 0o644 }
}

fn time(metadata: &Metadata, style: Style<'_>) -> u64 {
    let own = || metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok();
    style.time.unwrap_or_else(|| own().map_or(0, |time| time.as_secs()))
}

/// Unpacks an archive of ours below `dir`; one that is larger than `limit` is refused.
pub(crate) fn unpack(from: impl Read, dir: &Path, limit: u64) -> io::Result<()> {
    let mut bounded = from.take(limit.saturating_add(1));
    let mut archive = tar::Archive::new(&mut bounded);
    archive.set_preserve_mtime(false);
    archive.unpack(dir)?;
    // The reader may hold more than the archive: its end must be seen, too.
    io::copy(&mut bounded, &mut io::sink())?;
    if bounded.limit() == 0 {
        let text = format!("the repository is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ALL: Style<'static> =
        Style { leaves_out: &|_| false, time: Some(1_700_000_000), plain_modes: true };

    #[test]
    fn odd_names_and_links_come_out_as_they_went_in() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = "l".repeat(200);
        let names: [&[u8]; 7] = [
            b"a b",
            b"-x",
            b"new\nline",
            "gr\u{fc}n".as_bytes(),
            b"\xff\xfe",
            b"e",
            long.as_bytes(),
        ];
        let deep = from.path().join(&long[..120]).join("d").join(&long[..90]);
        fs::create_dir_all(&deep).unwrap();
        for name in names {
            fs::write(deep.join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::write(deep.join("e"), "").unwrap();
        let targets = ["./x//y/", "../../etc/passwd", "/etc/passwd", &long];
        for (at, target) in targets.iter().enumerate() {
            symlink(target, from.path().join(format!("link{at}"))).unwrap();
        }
        let mut archive = Archive::new(Vec::new());
        archive.add_tree(from.path(), b"", ALL).unwrap();
        let bytes = archive.finish().unwrap();
        unpack(&bytes[..], to.path(), 1 << 20).unwrap();
        for (at, target) in targets.iter().enumerate() {
            let link = fs::read_link(to.path().join(format!("link{at}"))).unwrap();
            assert_eq!(link.as_os_str(), OsStr::new(target));
        }
        let deep = to.path().join(deep.strip_prefix(from.path()).unwrap());
        for name in names {
            let want: &[u8] = if name == b"e" { b"" } else { name };
            assert_eq!(fs::read(deep.join(OsStr::from_bytes(name))).unwrap(), want);
        }
        assert!(unpack(&bytes[..], to.path(), 2000).is_err(), "larger than allowed");
        assert!(unpack(&bytes[..700], to.path(), 1 << 20).is_err(), "cut short");
    }
}
