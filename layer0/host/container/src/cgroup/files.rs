//! Small reads and writes of cgroup files, and paths that cannot leave their tree.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// `parts` as one relative path of plain names.
pub(super) fn relative(parts: &[&str]) -> io::Result<PathBuf> {
    let joined = parts.join("/");
    let path = Path::new(joined.trim_start_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.as_os_str().is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("bad cgroup path {joined:?}"),
        ));
    }
    Ok(path.to_owned())
}

/// Writes in one call, as cgroup files want it; the error names the file.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| naming(path, &error))
}

/// As [`write`], where the file may not exist on this kernel.
pub(super) fn write_if_there(path: &Path, text: &str) -> io::Result<()> {
    match write(path, text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The number in a file of one number.
pub(super) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key number` lines.
pub(super) fn keyed_number(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// Makes a directory; an existing one is fine.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|error| naming(path, &error)),
    }
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_their_tree() {
        assert_eq!(relative(&["/flynn/x", "user", "job"]).unwrap(), Path::new("flynn/x/user/job"));
        for bad in [["..", "a"], ["a", "../b"], ["", "a"], ["a", ""]] {
            assert!(relative(&bad).is_err(), "{bad:?}");
        }
    }
}
