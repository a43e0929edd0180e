//! One buildpack: a folder with `bin/detect`, `bin/compile` and perhaps `bin/release`, run as the user of
//! builds.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use slug::Release;

use crate::build::Build;
use crate::error::BuildError;
use crate::memory;
use crate::process::{Ended, Program};

/// Sources a file, then becomes the rest of its arguments.
const WITH_EXPORT: &str = r#"source "$1" && shift && exec "$@""#;

/// A buildpack on this disk.
#[derive(Clone, Debug)]
pub(crate) struct Buildpack {
    /// What people call it.
    pub name: String,
    pub folder: PathBuf,
}

impl Buildpack {
    /// Checks that the folder is a buildpack.
    pub(crate) fn new(name: &str, folder: PathBuf) -> Result<Self, BuildError> {
        for script in ["bin/detect", "bin/compile"] {
            if !folder.join(script).is_file() {
                return Err(BuildError::NotABuildpack { name: name.to_owned(), script });
            }
        }
        Ok(Self { name: name.to_owned(), folder })
    }

    /// What the buildpack calls the app; Err in the answer when it does not take it.
    pub(crate) async fn detect(
        &self,
        build: &Build<'_>,
    ) -> Result<Result<String, Ended>, BuildError> {
        let step = format!("bin/detect of {}", self.name);
        build.progress.at(&step);
        let detect = self.program(build, "bin/detect", &[&build.layout.app], &[]);
        let (ended, text) = detect.captured(&build.output).await.map_err(BuildError::io(step))?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(if ended.success() { Ok(text) } else { Err(ended) })
    }

    /// Compiles the app; `exports` are files that buildpacks before this one wrote for it.
    pub(crate) async fn compile(
        &self,
        build: &Build<'_>,
        exports: &[PathBuf],
    ) -> Result<(), BuildError> {
        let step = format!("bin/compile of {}", self.name);
        build.progress.at(&step);
        let layout = build.layout;
        let mut arguments: Vec<&Path> = vec![&layout.app, &layout.cache];
        if layout.env.is_dir() {
            arguments.push(&layout.env);
        }
        let compile = self.program(build, "bin/compile", &arguments, exports);
        let kills = memory::kills();
        let ended = compile.shown(&build.output).await.map_err(BuildError::io(&step))?;
        verdict(step, ended, kills)
    }

    /// What the buildpack says about the slug, kept in it as `.release`.
    pub(crate) async fn release(&self, build: &Build<'_>) -> Result<Release, BuildError> {
        let file = build.layout.app.join(".release");
        let writing = || BuildError::io("cannot write .release");
        // Where the app has a link or folder of that name, the buildpack's word counts.
        drop(fs::remove_file(&file));
        if !self.folder.join("bin/release").is_file() {
            fs::write(&file, "--- {}\n").map_err(writing())?;
            return Ok(Release::default());
        }
        let step = format!("bin/release of {}", self.name);
        build.progress.at(&step);
        let layout = build.layout;
        let release = self.program(build, "bin/release", &[&layout.app, &layout.cache], &[]);
        let kills = memory::kills();
        let (ended, text) = release.captured(&build.output).await.map_err(BuildError::io(&step))?;
        verdict(step, ended, kills)?;
        fs::write(&file, &text).map_err(writing())?;
        layout.give(&file).map_err(writing())?;
        Release::parse(&String::from_utf8_lossy(&text))
            .map_err(|source| BuildError::Release { name: self.name.clone(), source })
    }

    /// The file with variables for later buildpacks, if this one wrote it.
    pub(crate) fn export(&self) -> Option<PathBuf> {
        Some(self.folder.join("export")).filter(|export| export.is_file())
    }

    fn program(
        &self,
        build: &Build<'_>,
        script: &str,
        arguments: &[&Path],
        exports: &[PathBuf],
    ) -> Program {
        let mut argv: Vec<OsString> = Vec::new();
        for export in exports {
            argv.extend(["bash", "-c", WITH_EXPORT, "export"].map(OsString::from));
            argv.push(export.into());
        }
        argv.push(self.folder.join(script).into());
        argv.extend(arguments.iter().map(|argument| OsString::from(*argument)));
        // A folder that every script may be in; scripts change to where they work.
        Program::new(argv, &build.layout.home, build.env.clone()).user(build.layout.user)
    }
}

fn verdict(step: String, ended: Ended, kills_before: u64) -> Result<(), BuildError> {
    if ended.success() {
        return Ok(());
    }
    if memory::kills() > kills_before {
        return Err(BuildError::OutOfMemory { step, limit: memory::limit() });
    }
    Err(BuildError::Failed { step, ended })
}
