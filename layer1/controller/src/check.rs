//! What is asked of a request's body before it is read into a type, in the words clients know
//! (spec/controller.md §8). Wrong types of values are not looked at here: reading tells those.

use serde_json::{Map, Value};

use crate::failure::{Answer, Failure};

/// A body, as an object.
pub(crate) type Body = Map<String, Value>;

/// The body as an object; anything else is a syntax error.
pub(crate) fn object(body: Value) -> Answer<Body> {
    match body {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(kit_http::ApiError::syntax().into())
        }
    }
}

/// Reads a checked body into its type.
pub(crate) fn read<T: serde::de::DeserializeOwned>(body: Body) -> Answer<T> {
    serde_json::from_value(Value::Object(body)).map_err(|reason| {
        tracing::debug!(%reason, "request body refused");
        kit_http::ApiError::syntax().into()
    })
}

/// The field, where present, is one of these.
pub(crate) fn one_of(body: &Body, field: &str, allowed: &[&str]) -> Answer<()> {
    match text(body, field) {
        Some(given) if !given.is_empty() && !allowed.contains(&given) => {
            Err(enum_error(field, allowed))
        }
        Some(_) | None => Ok(()),
    }
}

/// The field is present and one of these.
pub(crate) fn always_one_of(body: &Body, field: &str, allowed: &[&str]) -> Answer<()> {
    let absent = matches!(body.get(field), None | Some(Value::Null));
    if absent || text(body, field) == Some("") {
        return Err(enum_error(field, allowed));
    }
    one_of(body, field, allowed)
}

/// The field is there and not empty.
pub(crate) fn required(body: &Body, field: &str) -> Answer<()> {
    let is_missing = match body.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => false,
    };
    if !is_missing {
        return Ok(());
    }
    let text =
        format!("Required error. The data must be an object with \"{field}\" as one of its keys");
    Err(Failure::invalid(text))
}

/// The field, where present, is an absolute URI or an absolute path.
pub(crate) fn uri(body: &Body, field: &str) -> Answer<()> {
    match text(body, field) {
        Some(given) if !given.is_empty() && !is_uri(given) => {
            Err(Failure::field(field, "Value must be a valid URI, according to RFC3986."))
        }
        Some(_) | None => Ok(()),
    }
}

/// An app's name, where present.
pub(crate) fn app_name(body: &Body) -> Answer<()> {
    match text(body, "name") {
        None | Some("") => Ok(()),
        Some(name) if !is_app_name(name) => Err(Failure::field(
            "name",
            r#"String must match the pattern: "^[a-z\d]+(-[a-z\d]+)*$"."#,
        )),
        Some(name) if name.len() > 100 => {
            Err(Failure::field("name", "String length must be shorter than 100 characters."))
        }
        Some(_) => Ok(()),
    }
}

/// The wanted counts, where present, can be meant.
pub(crate) fn counts(body: &Body, field: &str) -> Answer<()> {
    let Some(Value::Object(counts)) = body.get(field) else { return Ok(()) };
    let limit = i64::from(controller_api::MAX_PROCESS_COUNT);
    let is_bad = |count: &Value| count.as_i64().is_some_and(|count| !(0..=limit).contains(&count));
    match counts.iter().find(|(_, count)| is_bad(count)) {
        Some((kind, count)) => Err(Failure::field(
            field,
            format!("Value must be between 0 and {limit}. Got {count} for {kind}"),
        )),
        None => Ok(()),
    }
}

/// A partial update of an app: known keys only, the ones that count of the right type.
pub(crate) fn app_update(body: &Body) -> Answer<()> {
    const KEYS: [&str; 9] = [
        "id",
        "name",
        "meta",
        "strategy",
        "release",
        "deploy_timeout",
        "created_at",
        "updated_at",
        "protected",
    ];
    if let Some(key) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let text =
            format!("Additional properties aren't allowed, found \"{key}\" as one of its keys");
        return Err(Failure::invalid(text));
    }
    if let Some(meta) = body.get("meta") {
        let is_texts = meta.as_object().is_some_and(|meta| meta.values().all(Value::is_string));
        if !is_texts {
            return Err(Failure::field("meta", "Validation failed for each schema in 'anyOf'."));
        }
    }
    of_type(body, "deploy_timeout", "integer", Value::is_i64)?;
    of_type(body, "strategy", "string", Value::is_string)?;
    app_name(body)?;
    strategy(body)
}

/// A strategy, where present.
pub(crate) fn strategy(body: &Body) -> Answer<()> {
    one_of(body, "strategy", &names(controller_api::Strategy::ALL, |strategy| strategy.as_str()))
}

/// The texts of a closed list.
pub(crate) fn names<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|value| text(*value)).collect()
}

fn of_type(body: &Body, field: &str, name: &str, is: impl Fn(&Value) -> bool) -> Answer<()> {
    let Some(value) = body.get(field).filter(|value| !is(value)) else { return Ok(()) };
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(Failure::field(field, format!("Value must be one of these types: [{name}]. Got {got}")))
}

fn enum_error(field: &str, allowed: &[&str]) -> Failure {
    let allowed = allowed.join(" ");
    let text = format!("Enum error. The data must be equal to one of these values [{allowed}].");
    Failure::field(field, text)
}

fn text<'a>(body: &'a Body, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}

/// Letters and digits in words joined by single dashes.
fn is_app_name(name: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    name.split('-').all(word)
}

fn is_uri(text: &str) -> bool {
    let no_space = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        let mut chars = scheme.chars();
        !rest.is_empty()
            && chars.next().is_some_and(|first| first.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    no_space && (scheme || text.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_uris_are_told_from_other_texts() {
        for (name, good) in
            [("demo", true), ("a-1-b", true), ("A", false), ("a--b", false), ("-a", false)]
        {
            assert_eq!(is_app_name(name), good, "{name}");
        }
        for (text, good) in [
            ("http://h/x", true),
            ("/absolute", true),
            ("foo bar", false),
            ("foo", false),
            ("http://h/ x", false),
            ("1http:x", false),
            ("urn:x", true),
        ] {
            assert_eq!(is_uri(text), good, "{text}");
        }
    }

    #[test]
    fn counts_stay_in_their_range() {
        let check =
            |counts| super::counts(&object(json!({"processes": counts})).unwrap(), "processes");
        assert!(check(json!({"web": 0, "worker": 10_000})).is_ok());
        assert!(check(json!({"web": -1})).is_err());
        assert!(check(json!({"web": 10_001})).is_err());
    }
}
