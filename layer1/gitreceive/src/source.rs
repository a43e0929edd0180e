//! The source of a build as a tar stream: a checked-out tree, or an archive somebody brings along; behind
//! it the app's environment, one file for each variable.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::archive::{Archive, Style};
use crate::pipe::PipeWriter;

/// Where the builder looks for the app's environment.
const ENV_DIR: &str = ".ENV_DIR_bdca46b87df0537eaefe79bb632d37709ff1df18/";

/// What tar knows as files of version control.
const VCS: [&str; 22] = [
    ".arch-ids",
    ".bzr",
    ".bzrignore",
    ".bzrtags",
    ".cvsignore",
    ".git",
    ".gitattributes",
    ".gitignore",
    ".gitmodules",
    ".hg",
    ".hgignore",
    ".hgtags",
    ".svn",
    "=RELEASE-ID",
    "=meta-update",
    "=update",
    "CVS",
    "RCS",
    "SCCS",
    "_darcs",
    "{arch}",
    ".jj",
];

/// What is built.
pub(crate) enum Source {
    /// A checked-out tree. All its files carry the time of the commit, so that the same commit is the
    /// same archive, byte for byte.
    Tree {
        /// Where it is.
        directory: PathBuf,
        /// Seconds since the epoch.
        time: u64,
    },
    /// A tar stream.
    Archive(Box<dyn Read + Send>),
}

impl Source {
    /// Writes the whole stream. Blocks.
    pub(crate) fn send(self, env: &BTreeMap<String, String>, to: PipeWriter) -> io::Result<()> {
        let mut archive = Archive::new(to);
        let time = match self {
            Self::Tree { directory, time } => {
                let leaves_out = |name: &OsStr| VCS.iter().any(|vcs| name == *vcs);
                let style = Style { leaves_out: &leaves_out, time: Some(time), plain_modes: true };
                archive.add_tree(&directory, b"", style)?;
                time
            }
            Self::Archive(from) => {
                archive.add_archive(from)?;
                0
            }
        };
        for (name, value) in env.iter().filter(|(name, _)| is_file_name(name)) {
            archive.add_file(format!("{ENV_DIR}{name}").as_bytes(), value.as_bytes(), time)?;
        }
        archive.finish()?.finish()
    }
}

/// Whether a variable can be a file of its name. Others reach the app, but no buildpack.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    async fn sent(source: Source, env: &[(&str, &str)]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (writer, pieces) = crate::pipe::writer();
        let sending = tokio::task::spawn_blocking(move || source.send(&env, writer));
        let all: Vec<_> = pieces.try_collect().await?;
        sending.await.unwrap()?;
        let bytes = all.concat();
        let mut archive = tar::Archive::new(&bytes[..]);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Ok((entry.path()?.to_string_lossy().into_owned(), bytes))
        };
        archive.entries()?.map(read).collect()
    }

    #[tokio::test]
    async fn files_of_version_control_stay_behind_and_the_environment_follows() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".git/config", "a/.git", "a/b", ".gitignore", "Procfile"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let source = Source::Tree { directory: dir.path().to_owned(), time: 1 };
        let env = [("FOO", "bar"), ("../x", "no"), ("", "no")];
        let names: Vec<_> =
            sent(source, &env).await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Procfile", "a/", "a/b", &format!("{ENV_DIR}FOO")]);
    }

    #[tokio::test]
    async fn an_archive_passes_with_the_environment_at_its_end() {
        let mut archive = Archive::new(Vec::new());
        let long = "n".repeat(150);
        archive.add_file(long.as_bytes(), b"long", 1).unwrap();
        archive.add_file(b"x", &[1; 700], 1).unwrap();
        let bytes = archive.finish().unwrap();
        let whole = Source::Archive(Box::new(io::Cursor::new(bytes.clone())));
        let got = sent(whole, &[("K", "V")]).await.unwrap();
        let want = [
            (long, b"long".to_vec()),
            ("x".into(), vec![1; 700]),
            (format!("{ENV_DIR}K"), b"V".to_vec()),
        ];
        assert_eq!(got, want);
        let cut = Source::Archive(Box::new(io::Cursor::new(bytes[..1700].to_vec())));
        assert!(sent(cut, &[]).await.is_err());
    }
}
