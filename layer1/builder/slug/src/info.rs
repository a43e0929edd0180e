//! Procfile and release information together: which process types there are and what each runs.

use crate::{Procfile, Release};

/// What a slug says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlugInfo {
    procfile: Option<Procfile>,
    release: Release,
}

impl SlugInfo {
    /// Of a slug with or without a Procfile. One that names no type counts as none.
    pub fn new(procfile: Option<Procfile>, release: Release) -> Self {
        let procfile = procfile.filter(|procfile| procfile.types().next().is_some());
        Self { procfile, release }
    }

    /// The types of the Procfile, or the buildpack's where there is none.
    pub fn process_types(&self) -> Vec<&str> {
        match &self.procfile {
            Some(procfile) => procfile.types().collect(),
            None => self.release.default_process_types.keys().map(String::as_str).collect(),
        }
    }

    /// What a process type runs.
    pub fn command(&self, process_type: &str) -> Option<&str> {
        match &self.procfile {
            Some(procfile) => procfile.command(process_type),
            None => self.release.default_process_types.get(process_type).map(String::as_str),
        }
    }

    /// Environment variables that hold where the app sets none.
    pub fn defaults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.release.config_vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_hides_the_default_types() {
        let release = Release::parse("default_process_types: {web: default, rake: r}").unwrap();
        let without = SlugInfo::new(None, release.clone());
        assert_eq!(without.process_types(), ["rake", "web"]);
        assert_eq!(without.command("web"), Some("default"));
        let with = SlugInfo::new(Some(Procfile::parse("worker: w\nweb: own\n")), release);
        assert_eq!(with.process_types(), ["worker", "web"]);
        assert_eq!(with.command("web"), Some("own"));
        assert_eq!(with.command("rake"), None);
        let empty = SlugInfo::new(Some(Procfile::parse("# later\n")), without.release.clone());
        assert_eq!(empty.process_types(), ["rake", "web"]);
    }
}
