//! Key and known hosts for submodules behind ssh: files where ssh looks for them.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::git;
use crate::settings::Settings;

/// Writes what the environment gives; nothing where it gives nothing.
pub(crate) fn write_files(settings: &Settings) -> io::Result<()> {
    write_below(&git::home(), settings)
}

fn write_below(home: &Path, settings: &Settings) -> io::Result<()> {
    let (key, hosts) = settings.ssh();
    let dir = home.join(".ssh");
    for (name, text) in [("id_rsa", key), ("known_hosts", hosts)] {
        let Some(text) = text else { continue };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.create(true).write(true).truncate(true).mode(0o600).open(dir.join(name))?;
        file.write_all(text.as_bytes())?;
        // A key without its last line break is no key to ssh.
        if !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_written_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let pairs = [("CONTROLLER_KEY", "k"), ("SSH_CLIENT_KEY", "pem")];
        let settings = Settings::from_env(pairs.map(|(name, value)| (name.into(), value.into())));
        write_below(home.path(), &settings.unwrap()).unwrap();
        let key = home.path().join(".ssh/id_rsa");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "pem\n");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!home.path().join(".ssh/known_hosts").exists());
    }
}
