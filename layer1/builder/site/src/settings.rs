//! How an app wants to be served: `static.json` or `Staticfile`, both with the few keys that matter.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_norway::Value;

/// What of an app is served, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder.
    pub root: PathBuf,
    /// Whether `/about` finds `about.html`.
    pub clean_urls: bool,
    /// The file, below the folder, that is sent with 404.
    pub error_page: Option<PathBuf>,
    /// The file, below the folder, that is sent for every path that is no file.
    pub fallback: Option<PathBuf>,
}

/// Why an app cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A settings file that cannot be read.
    #[error("cannot read {0}")]
    Read(&'static str, #[source] io::Error),
    /// Not JSON.
    #[error("static.json is not the JSON it should be")]
    Json(#[from] serde_json::Error),
    /// Not YAML.
    #[error("Staticfile is not the YAML it should be")]
    Yaml(#[from] serde_norway::Error),
    /// A path that leads elsewhere.
    #[error("{0:?} does not lie in the app")]
    Outside(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StaticJson {
    root: Option<String>,
    clean_urls: bool,
    error_page: Option<String>,
    routes: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the settings of the app in a folder.
    ///
    /// # Errors
    /// When a settings file cannot be read, or names something outside of the app.
    pub fn of_app(app: &Path) -> Result<Self, SettingsError> {
        if let Some(text) = read(app, "static.json")? {
            let found: StaticJson = serde_json::from_str(&text)?;
            let all = found.routes.get("/**").cloned();
            return Ok(Self {
                root: app.join(inside(found.root.as_deref().unwrap_or("public_html"))?),
                clean_urls: found.clean_urls,
                error_page: found.error_page.as_deref().map(inside).transpose()?,
                fallback: all.as_deref().map(inside).transpose()?,
            });
        }
        let text = read(app, "Staticfile")?.unwrap_or_default();
        let found: Option<BTreeMap<String, Value>> = serde_norway::from_str(&text)?;
        let found = found.unwrap_or_default();
        let root = found.get("root").and_then(Value::as_str).unwrap_or_default();
        let pushstate = found.get("pushstate").is_some_and(is_on);
        Ok(Self {
            root: app.join(inside(root)?),
            clean_urls: false,
            error_page: Some(PathBuf::from("404.html")),
            fallback: pushstate.then(|| PathBuf::from("index.html")),
        })
    }
}

fn is_on(value: &Value) -> bool {
    value.as_bool().unwrap_or(false) || value.as_str().is_some_and(|text| text == "enabled")
}

fn read(app: &Path, name: &'static str) -> Result<Option<String>, SettingsError> {
    match fs::read_to_string(app.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SettingsError::Read(name, error)),
    }
}

/// A path below a folder, with or without a slash before it.
fn inside(text: &str) -> Result<PathBuf, SettingsError> {
    let path = PathBuf::from(text.trim_start_matches('/'));
    let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.components().all(is_plain) {
        Ok(path)
    } else {
        Err(SettingsError::Outside(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = Settings::of_app(dir.path()).map_err(|error| error.to_string())?;
        let root = found.root.strip_prefix(dir.path()).unwrap().to_owned();
        Ok(Settings { root, ..found })
    }

    #[test]
    fn settings_come_from_either_file_or_none() {
        let path = |text: &str| Some(PathBuf::from(text));
        let plain = of(&[]).unwrap();
        assert_eq!((plain.root, plain.fallback), (PathBuf::new(), None));
        let json = r#"{"root": "dist/", "clean_urls": true, "error_page": "/e.html",
            "routes": {"/**": "index.html"}, "https_only": true}"#;
        let heroku = of(&[("static.json", json)]).unwrap();
        assert_eq!(heroku.root, PathBuf::from("dist/"));
        assert!(heroku.clean_urls);
        assert_eq!((heroku.error_page, heroku.fallback), (path("e.html"), path("index.html")));
        assert_eq!(of(&[("static.json", "{}")]).unwrap().root, PathBuf::from("public_html"));
        let cf = of(&[("Staticfile", "root: public\npushstate: enabled\n")]).unwrap();
        assert_eq!((cf.root, cf.fallback), (PathBuf::from("public"), path("index.html")));
        assert_eq!(of(&[("Staticfile", "")]).unwrap().fallback, None);
        for bad in [("static.json", r#"{"root": "../x"}"#), ("Staticfile", "root: a/../../b")] {
            assert!(of(&[bad]).unwrap_err().contains("does not lie in the app"));
        }
        assert!(of(&[("static.json", "no")]).is_err());
    }
}
