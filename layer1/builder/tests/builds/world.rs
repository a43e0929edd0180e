//! One machine to build on: folders in place of a job's, the fakes, and buildpacks made for the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::{BuildError, Config, Output, Places, User};
use kit_tasks::Tasks;
use serde_json::Value;

use super::fakes::Fakes;

pub(crate) const TOKEN: &str = "build1.token.secret";
const APP: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdef";

/// Where tests build.
pub(crate) struct World {
    pub dir: tempfile::TempDir,
    pub fakes: Fakes,
    url: String,
    tasks: Tasks,
    builds: u32,
    pub env: BTreeMap<String, String>,
}

/// What a build left behind.
pub(crate) struct Done {
    pub result: Result<(), BuildError>,
    pub out: String,
    pub err: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The user of builds has to get through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("own")).unwrap();
        let (fakes, tasks) = (Fakes::default(), Tasks::root("test"));
        let url = format!("http://{}", fakes.start(&tasks).await.addr());
        Self { dir, fakes, url, tasks, builds: 0, env: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// A buildpack of our own that stands in the job's image.
    pub(crate) fn own_buildpack(&self, name: &str, scripts: &[(&str, &str)]) {
        write_scripts(&self.dir.path().join("own").join(name), scripts);
    }

    /// A buildpack in a git repository; its URL.
    pub(crate) fn git_buildpack(&self, name: &str, scripts: &[(&str, &str)]) -> String {
        let folder = self.dir.path().join("git").join(name);
        write_scripts(&folder, scripts);
        for arguments in
            [&["init", "-q", "-b", "master"][..], &["add", "."], &["commit", "-q", "-m", "made"]]
        {
            git(&folder, arguments);
        }
        // git refuses to read what belongs to others.
        assert!(
            Command::new("chown")
                .args(["-R", "5000:5000"])
                .arg(&folder)
                .status()
                .unwrap()
                .success()
        );
        format!("file://{}", folder.display())
    }

    /// A configuration for a fresh job of the same app.
    pub(crate) fn config(&mut self) -> Config {
        self.builds += 1;
        let tmp = self.dir.path().join(format!("job{}", self.builds));
        let slug = format!("0f0e0d0c-2222-4222-8333-{:012x}", self.builds);
        let mut env = self.env.clone();
        for (name, value) in [
            ("SLUG_IMAGE_ID", slug.as_str()),
            ("CONTROLLER_KEY", TOKEN),
            ("BLOBSTORE_URL", &self.url),
            ("CONTROLLER_URL", &self.url),
            ("BUILD_CACHE_URL", &format!("{}/{APP}-cache.tgz", self.url)),
            ("SOURCE_VERSION", "0123456789012345678901234567890123456789"),
        ] {
            env.insert(name.to_owned(), value.to_owned());
        }
        let mut config = Config::from_env(env).unwrap();
        config.places = Places {
            app: tmp.join("app"),
            runtimes: tmp.join("runtimes-link"),
            buildpacks: self.dir.path().join("own"),
            accounts: None,
            ca_bundle: PathBuf::from("/no/bundle"),
            tmp: tmp.join("tmp"),
        };
        fs::create_dir_all(&tmp).unwrap();
        config
    }

    pub(crate) async fn build(&mut self, files: &[(&str, &str)]) -> Done {
        let config = self.config();
        self.build_with(config, tar(files)).await
    }

    pub(crate) async fn build_with(&self, config: Config, source: Vec<u8>) -> Done {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Output::new(out.clone(), err.clone());
        let result = builder::build(&config, io::Cursor::new(source), &output).await;
        let plain = |captured: &Captured| captured.text().replace("\u{1b}[1G", "");
        Done { result, out: plain(&out), err: plain(&err) }
    }

    /// The files of the newest slug's layers, each with its text.
    pub(crate) fn newest_slug(&self) -> BTreeMap<String, String> {
        let artifact = self.newest_artifact();
        let layers = artifact["manifest"]["rootfs"][0]["layers"].as_array().unwrap().clone();
        let mut found = BTreeMap::new();
        for layer in layers {
            let id = layer["id"].as_str().unwrap();
            let blob = self.fakes.blob(&format!("/slugs/layers/{id}.squashfs")).unwrap();
            let file = self.dir.path().join("layer");
            fs::write(&file, blob).unwrap();
            let to = self.dir.path().join("unpacked");
            drop(fs::remove_dir_all(&to));
            let unpack = Command::new("unsquashfs")
                .arg("-q")
                .arg("-n")
                .arg("-d")
                .arg(&to)
                .arg(&file)
                .output();
            assert!(unpack.unwrap().status.success());
            collect(&to, &to, &mut found);
        }
        found
    }

    pub(crate) fn newest_artifact(&self) -> Value {
        self.fakes.artifacts.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) async fn end(self) {
        self.tasks.shutdown(Duration::from_secs(30)).await;
    }
}

impl Done {
    /// Fails the test with everything the build said.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{}\n{}{}", error.report(), self.out, self.err);
        }
        self
    }

    #[track_caller]
    pub(crate) fn failure(&self) -> (String, u8) {
        match &self.result {
            Ok(()) => panic!("it worked:\n{}{}", self.out, self.err),
            Err(error) => (error.report(), error.exit_code()),
        }
    }
}

fn collect(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(at).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let status = Command::new("git").current_dir(folder).args(identity).args(arguments).status();
    assert!(status.unwrap().success(), "git {arguments:?}");
}

fn write_scripts(folder: &Path, scripts: &[(&str, &str)]) {
    for (name, text) in scripts {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A source as a push sends it.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What the person who pushes would see.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whom the tests' buildpacks run as.
pub(crate) fn user() -> User {
    User::FLYNN
}
