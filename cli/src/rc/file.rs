//! The file itself: read with keys in any case, written in the form the original wrote, atomically
//! and readable by its owner alone, because it holds keys.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Cluster, Rc, RcError};

impl Rc {
    /// The file's content; a missing file is an empty one.
    pub(crate) fn load(path: &Path) -> Result<Self, RcError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .map_err(|message| RcError::Syntax { path: path.to_owned(), message }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RcError::Read { path: path.to_owned(), source }),
        }
    }

    /// Replaces the file.
    pub(crate) fn save(&self, path: &Path) -> Result<(), RcError> {
        // A person may keep the file elsewhere and link to it.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        replace(&target, self.to_text().as_bytes())
            .map_err(|source| RcError::Write { path: target, source })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let blocks = match get(&table, "cluster") {
            Some(toml::Value::Array(blocks)) => blocks.as_slice(),
            Some(_) => return Err("`cluster` must be an array of tables".to_owned()),
            None => &[],
        };
        let clusters = blocks.iter().filter_map(toml::Value::as_table).map(cluster_of).collect();
        Ok(Self { default: text_of(&table, "default"), clusters })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if self.clusters.is_empty() {
            return text;
        }
        if !self.default.is_empty() {
            let _ = writeln!(text, "default = {}\n", quoted(&self.default));
        }
        for cluster in &self.clusters {
            text.push_str("[[cluster]]\n");
            for (key, value, always) in fields(cluster) {
                if always || !value.is_empty() {
                    let _ = writeln!(text, "  {key} = {}", quoted(value));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A block's keys in the order of the file, and whether an empty value is written.
fn fields(cluster: &Cluster) -> [(&'static str, &str, bool); 8] {
    [
        ("Name", &cluster.name, true),
        ("OAuthURL", &cluster.oauth_url, false),
        ("Key", &cluster.key, cluster.oauth_url.is_empty()),
        ("TLSPin", &cluster.tls_pin, false),
        ("ControllerURL", &cluster.controller_url, true),
        ("GitURL", &cluster.git_url, true),
        ("ImageURL", &cluster.image_url, true),
        ("DockerPushURL", &cluster.docker_push_url, false),
    ]
}

fn cluster_of(table: &toml::Table) -> Cluster {
    Cluster {
        name: text_of(table, "name"),
        key: text_of(table, "key"),
        tls_pin: text_of(table, "tlspin"),
        controller_url: text_of(table, "controllerurl"),
        git_url: text_of(table, "giturl"),
        image_url: text_of(table, "imageurl"),
        docker_push_url: text_of(table, "dockerpushurl"),
        oauth_url: text_of(table, "oauthurl"),
    }
}

fn get<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

fn text_of(table: &toml::Table, key: &str) -> String {
    get(table, key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes beside the file, then renames over it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"default = "foo"

[[cluster]]
  Name = "foo"
  Key = "abc"
  TLSPin = "base64="
  ControllerURL = "https://controller.foo.example.com"
  GitURL = ""
  ImageURL = "https://images.foo.example.com"

"#;

    #[test]
    fn the_file_reads_back_as_written() {
        let rc = Rc::parse(WRITTEN).unwrap();
        assert_eq!(rc.default, "foo");
        assert_eq!(rc.clusters[0].tls_pin, "base64=");
        assert_eq!(rc.to_text(), WRITTEN);
    }

    #[test]
    fn keys_are_read_in_any_case() {
        let rc =
            Rc::parse("Default='x'\n[[Cluster]]\nname='x'\nCONTROLLERURL='http://h:1'\n").unwrap();
        assert_eq!(rc.default, "x");
        assert_eq!(rc.clusters[0].controller_url, "http://h:1");
    }

    #[test]
    fn without_clusters_the_file_is_empty() {
        assert_eq!(Rc { default: "gone".to_owned(), clusters: vec![] }.to_text(), "");
        assert!(Rc::parse("default = ").is_err());
    }

    #[test]
    fn a_saved_file_is_for_its_owner_and_survives_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let rc = Rc::parse(WRITTEN).unwrap();
        rc.save(&link).unwrap();
        assert_eq!(Rc::load(&real).unwrap(), rc);
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Rc::load(&dir.path().join("none")).unwrap(), Rc::default());
    }
}
