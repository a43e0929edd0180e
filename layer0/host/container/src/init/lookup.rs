//! Finding the program as a shell would: PATH of the job's environment, then the working directory.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::error::plain_error;

/// The program to execute, or the reason in the words people know from Flynn.
pub(super) fn find(name: &str, env: &[(String, String)]) -> Result<CString, String> {
    let found = if name.contains('/') {
        executable(Path::new(name))
            .map_err(|error| format!("exec: {name:?}: {}", plain_error(&error)))?;
        PathBuf::from(name)
    } else {
        search(name, env)
            .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))?
    };
    CString::new(found.as_os_str().as_bytes())
        .map_err(|_| format!("exec: {name:?}: invalid argument"))
}

fn search(name: &str, env: &[(String, String)]) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value);
    let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    folders
        .chain(["."])
        .map(|folder| Path::new(folder).join(name))
        .find(|file| executable(file).is_ok())
}

fn executable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    // By the effective user: this runs as the program's user.
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_along_the_path() {
        let env = [("PATH".to_owned(), "/nonexistent:/usr/bin:/bin".to_owned())];
        assert!(find("sh", &env).unwrap().to_str().unwrap().ends_with("bin/sh"));
        assert_eq!(
            find("no-such-program", &env).unwrap_err(),
            r#"exec: "no-such-program": executable file not found in $PATH"#
        );
        assert_eq!(
            find("/no/such", &env).unwrap_err(),
            r#"exec: "/no/such": no such file or directory"#
        );
        assert_eq!(find("/etc", &env).unwrap_err(), r#"exec: "/etc": permission denied"#);
    }
}
