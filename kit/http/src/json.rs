//! JSON in and out: the shared decoder's rules for request bodies, and an encoder whose output a
//! client of the original cannot tell apart.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter};

use crate::error::ApiError;
use crate::object::Objects;

/// How much of a request body is read unless a route says otherwise with [`BodyLimit`].
pub const DEFAULT_BODY_LIMIT: usize = 4 << 20;

/// How long a client may take to send its whole JSON body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// JSON of a request or a response.
///
/// As an extractor it wants a `Content-Type` containing `application/json`, reads at most
/// [`DEFAULT_BODY_LIMIT`] bytes (or [`BodyLimit`]), takes `null` for an empty object and ignores what
/// follows the first JSON value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// [`Json`] for routes that do not look at the `Content-Type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyJson<T>(pub T);

/// The query string, parsed; what does not parse is a validation error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

/// Another body limit for the routes below `axum::Extension(BodyLimit(n))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::validation_plain("Content-Type must be application/json"));
        }
        decode(&read_body(request).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for AnyJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        decode(&read_body(request).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let parsed = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        parsed.map(|query| Self(query.0)).map_err(|bad| ApiError::validation_plain(bad.body_text()))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        respond(StatusCode::OK, &self.0)
    }
}

/// Whether the `Content-Type` contains `application/json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
    types.any(|value| value.contains("application/json"))
}

/// A JSON answer of the given status.
pub(crate) fn respond<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response {
    match encode_json(body) {
        Ok(bytes) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(CONTENT_TYPE, json)], bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let limit = request.extensions().get::<BodyLimit>().map_or(DEFAULT_BODY_LIMIT, |limit| limit.0);
    let whole = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_body_too_big())
        }
        // The client went away in the middle of its body.
        Ok(Err(_)) => Err(ApiError::syntax()),
        Err(_) => Err(ApiError::validation_plain("request body was not received in time")),
    }
}

/// Reads the first JSON value of a body; `null` is an empty object, a list is none.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.trim_ascii() == b"null" { b"{}" } else { body };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let is_list = body.trim_ascii_start().starts_with(b"[");
    T::deserialize(Objects { inner: &mut deserializer, is_list }).map_err(|reason| {
        tracing::debug!(%reason, "request body refused");
        ApiError::syntax()
    })
}

/// Compact JSON with the escapes of the original: `<`, `>`, `&`, U+2028 and U+2029 as `\u` escapes, so
/// that the text may stand in HTML, and no short escapes but those of quote, backslash, tab, newline and
/// return.
pub fn encode_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Escaping))?;
    Ok(text)
}

/// See [`encode_json`].
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let mut rest = fragment;
        let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        while let Some(at) = rest.find(special) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(found) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(found))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> std::io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(br#"\""#),
            CharEscape::ReverseSolidus => writer.write_all(br"\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(br"\u0008"),
            CharEscape::FormFeed => writer.write_all(br"\u000c"),
            CharEscape::LineFeed => writer.write_all(br"\n"),
            CharEscape::CarriageReturn => writer.write_all(br"\r"),
            CharEscape::Tab => writer.write_all(br"\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

/// For `#[serde(default, deserialize_with = "kit_http::null_as_default")]`: Go clients write `null` for
/// empty lists and maps.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
