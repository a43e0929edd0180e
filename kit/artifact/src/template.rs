//! The URL of a layer from an artifact's template: RFC 6570's simple expansion with the variable `id`.

use crate::LayerId;

/// Why a template gives no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace has no partner.
    #[error("layer URL template {0:?} has an unmatched brace")]
    Unmatched(String),
    /// More than `{id}` stands in braces.
    #[error("layer URL template has the unknown variable {{{0}}}: only {{id}} is known")]
    Unknown(String),
}

/// The URL of layer `id`. Ids are hex, so nothing needs escaping.
pub fn layer_url(template: &str, id: &LayerId) -> Result<String, TemplateError> {
    let unmatched = || TemplateError::Unmatched(template.to_owned());
    let mut url = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, from) = rest.split_at(at);
        url.push_str(literal);
        let inner = from.strip_prefix('{').ok_or_else(unmatched)?;
        let (variable, after) = inner.split_once('}').ok_or_else(unmatched)?;
        if variable != "id" {
            return Err(TemplateError::Unknown(variable.to_owned()));
        }
        url.push_str(id.as_str());
        rest = after;
    }
    url.push_str(rest);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_or_say_why_not() {
        let id = "aa11".parse().unwrap();
        let url = |template: &str| layer_url(template, &id).map_err(|error| error.to_string());
        assert_eq!(url("http://h/{id}.squashfs"), Ok("http://h/aa11.squashfs".into()));
        let tuf = url("https://h/tuf?target=/layers/{id}.squashfs").unwrap();
        assert_eq!(tuf, "https://h/tuf?target=/layers/aa11.squashfs");
        assert_eq!(url("http://h/x"), Ok("http://h/x".into()));
        for (template, want) in [
            ("h/{id", "layer URL template \"h/{id\" has an unmatched brace"),
            ("h/id}", "layer URL template \"h/id}\" has an unmatched brace"),
            ("h/{x}", "layer URL template has the unknown variable {x}: only {id} is known"),
        ] {
            assert_eq!(url(template), Err(want.into()));
        }
    }
}
