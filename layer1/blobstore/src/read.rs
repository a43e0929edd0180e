//! GET and HEAD: files with conditions and ranges, lists of names.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::catalogue::{self, File};
use crate::ranges::{self, Part};
use crate::server::{Failure, Store, text};

/// Separates the parts of an answer with several ranges; no file of ours begins a line with it.
const BOUNDARY: &str = "flynn-blobstore-part-7c9e6679f247";

/// The list of names below `?dir=`.
pub(crate) async fn list(store: &Store, dir: &str) -> Result<Response, Failure> {
    let dir = dir.strip_suffix('/').unwrap_or(dir);
    let names = if dir.is_empty() || dir.starts_with('/') {
        catalogue::list(&store.pool, dir).await?
    } else {
        Vec::new()
    };
    let mut body = kit_http::encode_json(&names).map_err(|_| Failure::Internal)?;
    body.push(b'\n');
    Ok(text(StatusCode::OK, body))
}

/// A file, or why not.
pub(crate) async fn file(
    store: &Store,
    method: &Method,
    headers: &HeaderMap,
    name: &str,
) -> Result<Response, Failure> {
    let file = catalogue::find(&store.pool, name).await?.ok_or(Failure::NotFound)?;
    let tag = tag(&file);
    if is_unchanged(headers, &tag, &file) {
        return Ok(with(StatusCode::NOT_MODIFIED, &[(ETAG, tag)], Body::empty()));
    }
    let part = match headers.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(range) if range_applies(headers, &tag, &file) => ranges::parse(range, file.size),
        _ => Part::Whole,
    };
    let common = [
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, tag),
        (LAST_MODIFIED, httpdate::fmt_http_date(SystemTime::from(file.updated_at))),
    ];
    Ok(answer(store, method == Method::HEAD, &file, part, &common))
}

/// The tag of a file's contents.
pub(crate) fn tag(file: &File) -> String {
    format!("\"{}\"", STANDARD.encode(&file.sha512))
}

fn answer(
    store: &Store,
    head_only: bool,
    file: &File,
    part: Part,
    common: &[(HeaderName, String)],
) -> Response {
    let read = |range: &std::ops::Range<u64>| {
        let (start, length) = (range.start, range.end - range.start);
        store.contents.read(file.id, &file.backend, start, length).inspect_err(|error| {
            tracing::error!(%error, "a file cannot be read to its end");
        })
    };
    let content_range = |range: &std::ops::Range<u64>| {
        format!("bytes {}-{}/{}", range.start, range.end - 1, file.size)
    };
    let (status, content_type, length, extra, body) = match part {
        Part::Unsatisfiable => {
            let range = [(CONTENT_RANGE, format!("bytes */{}", file.size))];
            return with(StatusCode::RANGE_NOT_SATISFIABLE, &range, Body::empty());
        }
        Part::Whole => {
            let body = Body::from_stream(read(&(0..file.size)));
            (StatusCode::OK, file.content_type.clone(), file.size, None, body)
        }
        Part::Ranges(ranges) if ranges.len() == 1 => {
            let range = &ranges[0];
            let (length, body) = (range.end - range.start, Body::from_stream(read(range)));
            let header = Some((CONTENT_RANGE, content_range(range)));
            (StatusCode::PARTIAL_CONTENT, file.content_type.clone(), length, header, body)
        }
        Part::Ranges(ranges) => {
            let heads: Vec<String> = ranges
                .iter()
                .map(|range| {
                    let (kind, range) = (&file.content_type, content_range(range));
                    format!(
                        "\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n"
                    )
                })
                .collect();
            let end = format!("\r\n--{BOUNDARY}--\r\n");
            let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let words: usize = heads.iter().map(String::len).sum::<usize>() + end.len();
            let parts: Vec<_> = heads
                .into_iter()
                .zip(&ranges)
                .map(|(head, range)| {
                    stream::once(async move { Ok(Bytes::from(head)) }).chain(read(range))
                })
                .collect();
            let all = stream::iter(parts).flatten();
            let body = Body::from_stream(all.chain(stream::once(async { Ok(Bytes::from(end)) })));
            let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
            (StatusCode::PARTIAL_CONTENT, kind, bytes + words as u64, None, body)
        }
    };
    let mut headers = common.to_vec();
    headers.push((CONTENT_LENGTH, length.to_string()));
    headers.push((CONTENT_TYPE, content_type));
    headers.extend(extra);
    with(status, &headers, if head_only { Body::empty() } else { body })
}

fn is_unchanged(headers: &HeaderMap, tag: &str, file: &File) -> bool {
    if let Some(tags) = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) {
        let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
        return tags.any(|one| one == "*" || one == tag);
    }
    date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| seconds(file) <= since)
}

/// Whether a range may be served: without `If-Range`, or when the client's copy is of this file.
fn range_applies(headers: &HeaderMap, tag: &str, file: &File) -> bool {
    match headers.get(IF_RANGE).and_then(|value| value.to_str().ok()) {
        None => true,
        Some(known) if known.starts_with('"') => known == tag,
        Some(_) => date(headers, &IF_RANGE).is_some_and(|since| seconds(file) == since),
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

fn seconds(file: &File) -> u64 {
    u64::try_from(file.updated_at.timestamp()).unwrap_or(0)
}

fn with(status: StatusCode, headers: &[(HeaderName, String)], body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        // Content types come from clients; one that is no header value is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    response
}
