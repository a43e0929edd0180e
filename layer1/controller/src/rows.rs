//! Reading columns into the types of the wire. What cannot be read there is a mistake of ours, or of
//! somebody who wrote to the database by hand: an internal error with the column's name in the log.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use controller_api::Timestamp;
use kit_pg::{Json, Row};
use serde::de::DeserializeOwned;

use crate::failure::{Answer, Failure};

/// A column that holds no value of its type.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds what is no {wanted}")]
struct Unreadable {
    column: &'static str,
    wanted: &'static str,
}

/// An id or a value of a closed list.
pub(crate) fn parsed<T: FromStr>(row: &Row, column: &'static str) -> Answer<T> {
    parse(column, row.try_get(column)?)
}

/// The same, where there may be none.
pub(crate) fn maybe<T: FromStr>(row: &Row, column: &'static str) -> Answer<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.filter(|text| !text.is_empty()).map(|text| parse(column, text)).transpose()
}

fn parse<T: FromStr>(column: &'static str, text: &str) -> Answer<T> {
    let wanted = std::any::type_name::<T>();
    text.parse().map_err(|_| Failure::internal(&Unreadable { column, wanted }))
}

/// A text.
pub(crate) fn text(row: &Row, column: &'static str) -> Answer<String> {
    Ok(row.try_get(column)?)
}

/// A jsonb column; null reads as the default.
pub(crate) fn json<T: DeserializeOwned + Default>(row: &Row, column: &'static str) -> Answer<T> {
    Ok(maybe_json(row, column)?.unwrap_or_default())
}

/// A jsonb column that may be null.
pub(crate) fn maybe_json<T: DeserializeOwned>(
    row: &Row,
    column: &'static str,
) -> Answer<Option<T>> {
    let value: Option<Json<serde_json::Value>> = row.try_get(column)?;
    let wanted = std::any::type_name::<T>();
    let read = |value: Json<serde_json::Value>| {
        serde_json::from_value(value.0)
            .map_err(|_| Failure::internal(&Unreadable { column, wanted }))
    };
    value.map(read).transpose()
}

/// A point in time.
pub(crate) fn time(row: &Row, column: &'static str) -> Answer<Timestamp> {
    let at: DateTime<Utc> = row.try_get(column)?;
    Ok(Timestamp(at))
}

/// A point in time that may not have come.
pub(crate) fn maybe_time(row: &Row, column: &'static str) -> Answer<Option<Timestamp>> {
    let at: Option<DateTime<Utc>> = row.try_get(column)?;
    Ok(at.map(Timestamp))
}

/// The texts of ids, for a query's parameter.
pub(crate) fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// The text of an id that may be absent, for a query's parameter.
pub(crate) fn text_of<T: ToString>(id: Option<&T>) -> Option<String> {
    id.map(ToString::to_string)
}

/// A UUID as clients write it in a look-up: lower-case hex, dashes optional. None for other texts.
pub(crate) fn uuid_form(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_hex = digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let first_eight = text.get(..8).is_some_and(|head| !head.contains('-'));
    if is_hex && first_eight && text.len() <= 36 { Some(digits) } else { None }
}
