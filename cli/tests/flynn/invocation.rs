//! A person's machine: a home with a config file, and `flynn` run in it.

use std::io::Cursor;

use cli::{Environment, Streams};

use crate::controller::Controller;

/// A home directory, and a directory to work in.
pub(crate) struct Person {
    pub(crate) home: tempfile::TempDir,
    pub(crate) environment: Environment,
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: u8,
}

impl Person {
    /// A person without clusters.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let environment = Environment {
            home: Some(home.path().to_owned()),
            directory: home.path().to_owned(),
            program: "/usr/bin/flynn".into(),
            ..Environment::default()
        };
        Self { home, environment }
    }

    /// A person whose only cluster is that controller's.
    pub(crate) fn with(controller: &Controller) -> Self {
        let person = Self::new();
        person.write_rc(&format!(
            "default = \"default\"\n\n[[cluster]]\n  Name = \"default\"\n  Key = \"kk\"\n  ControllerURL = \"{}\"\n  \
             GitURL = \"https://git.gold.test\"\n  ImageURL = \"http://127.0.0.1:3900\"\n",
            controller.url
        ));
        person
    }

    pub(crate) fn write_rc(&self, text: &str) {
        std::fs::write(self.home.path().join(".flynnrc"), text).expect("a writable home");
    }

    pub(crate) fn read_rc(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".flynnrc")).unwrap_or_default()
    }

    /// Runs `flynn` with words separated by blanks.
    pub(crate) async fn flynn(&self, words: &str) -> Said {
        self.flynn_answering(words, "").await
    }

    /// The same with something on stdin.
    pub(crate) async fn flynn_answering(&self, words: &str, input: &str) -> Said {
        let words =
            words.split_whitespace().map(|word| word.replace('~', " ").replace("''", "")).collect();
        let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), Cursor::new(input.to_owned()));
        let streams = Streams { out: &mut out, err: &mut err, input: &mut input };
        let status = cli::run(words, &self.environment, streams).await;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said { out: text(out), err: text(err), status }
    }

    /// Runs `flynn` and compares all it says: lines of stdout begin with `1| `, of stderr with `2| `.
    #[track_caller]
    pub(crate) fn check(said: &Said, status: u8, lines: &[&str]) {
        let part = |mark: &str| {
            let lines = lines.iter().filter_map(|line| line.strip_prefix(mark));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        assert_eq!(said, &Said { out: part("1| "), err: part("2| "), status });
    }
}
