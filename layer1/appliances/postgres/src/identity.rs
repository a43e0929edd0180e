//! What a data volume remembers: the peer's id, and that it was the primary of its cluster.

use std::fs;
use std::io::Write as _;
use std::path::Path;

const ID_FILE: &str = "instance_id";
const PRIMARY_FILE: &str = "was_primary";

/// The volume's id, made on first use.
pub(crate) fn load_or_make(volume: &Path) -> std::io::Result<String> {
    let path = volume.join(ID_FILE);
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => {
            let id = uuid::Uuid::new_v4().to_string();
            write_durably(&path, &id)?;
            Ok(id)
        }
    }
}

/// Whether this volume's server may be started without asking anybody.
pub(crate) fn was_primary(volume: &Path) -> bool {
    volume.join(PRIMARY_FILE).exists()
}

/// Remembers that this volume is the primary's.
pub(crate) fn note_primary(volume: &Path) -> std::io::Result<()> {
    if was_primary(volume) { Ok(()) } else { write_durably(&volume.join(PRIMARY_FILE), "") }
}

fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_keeps_its_id_and_its_place() {
        let volume = tempfile::tempdir().unwrap();
        let id = load_or_make(volume.path()).unwrap();
        assert_eq!(load_or_make(volume.path()).unwrap(), id);
        assert!(!was_primary(volume.path()));
        note_primary(volume.path()).unwrap();
        assert!(was_primary(volume.path()));
    }
}
