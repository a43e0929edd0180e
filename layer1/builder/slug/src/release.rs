//! What a buildpack's `bin/release` says: YAML, everything in it optional, other keys (`addons`) of no
//! meaning to us.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_norway::Value;

/// Defaults of a slug's environment and process types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Environment variables where the app sets none.
    pub config_vars: BTreeMap<String, String>,
    /// Commands by process type where there is no Procfile.
    pub default_process_types: BTreeMap<String, String>,
}

/// Why a text is no release information.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not YAML, or of another shape.
    #[error("the release information is not the YAML it should be")]
    Yaml(#[from] serde_norway::Error),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    config_vars: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    default_process_types: Option<BTreeMap<String, Value>>,
}

impl Release {
    /// Reads the output of `bin/release`; nothing at all is fine too.
    ///
    /// # Errors
    /// When the text is no YAML or not a mapping.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let raw: Option<Raw> = serde_norway::from_str(text)?;
        let Some(raw) = raw else { return Ok(Self::default()) };
        Ok(Self {
            config_vars: texts(raw.config_vars),
            default_process_types: texts(raw.default_process_types)
                .into_iter()
                .filter(|(name, command)| crate::is_process_type(name) && !command.is_empty())
                .collect(),
        })
    }
}

/// Scalars as the texts they were; what is nested says nothing.
fn texts(values: Option<BTreeMap<String, Value>>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null => Some(String::new()),
        Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    };
    let pairs = values.unwrap_or_default().into_iter();
    pairs.filter_map(|(name, value)| Some((name, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_optional() {
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(a, b)| format!("{a}={b}")).collect::<Vec<_>>().join(" ")
        };
        for (text, vars, types) in [
            ("", "", ""),
            ("--- {}\n", "", ""),
            ("---\n", "", ""),
            ("---\naddons: []\ndefault_process_types:\n  web: npm start\n", "", "web=npm start"),
            (
                "addons:\n  - a:b\nconfig_vars:\n  A: 1\n  B: true\n  C: x y\n",
                "A=1 B=true C=x y",
                "",
            ),
            ("config_vars:\ndefault_process_types:\n", "", ""),
            ("default_process_types: {web: 'a: b', 'bad name': x}\n", "", "web=a: b"),
        ] {
            let release = Release::parse(text).unwrap();
            assert_eq!(pairs(&release.config_vars), vars, "{text}");
            assert_eq!(pairs(&release.default_process_types), types, "{text}");
        }
        for bad in ["- a\n", "a: b: c\n", "config_vars: [1]\n"] {
            assert!(Release::parse(bad).is_err(), "{bad}");
        }
    }
}
