//! Canonical JSON: keys sorted bytewise, no blanks. What a manifest's id is the hash of.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The canonical JSON of a value. It must hold no floating-point numbers, whose text is not canonical.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&sorted(serde_json::to_value(value)?)?)
}

fn sorted(value: Value) -> Result<Value, serde_json::Error> {
    Ok(match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields.into_iter().collect();
            let fields = fields.into_iter().map(|(key, value)| Ok((key, sorted(value)?)));
            Value::Object(fields.collect::<Result<_, serde_json::Error>>()?)
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(sorted).collect::<Result<_, _>>()?)
        }
        Value::Number(number) if number.is_f64() => {
            return Err(serde::ser::Error::custom("canonical JSON has no floating-point numbers"));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value = json!({"b": [{"z": 1, "a": null}], "a": "<\"é", "B": true});
        let text = String::from_utf8(canonical_json(&value).unwrap()).unwrap();
        assert_eq!(text, r#"{"B":true,"a":"<\"é","b":[{"a":null,"z":1}]}"#);
        assert!(canonical_json(&json!({"a": 1.5})).is_err());
    }
}
