//! An app's log: asked of the leader of the log aggregators and handed on as it comes, as lines of JSON
//! or as events. Nothing is kept here.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use discoverd_api::Instance;
use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kit_http::{ApiError, ClientError, Query, Request, sse};

use crate::apps;
use crate::failure::{Answer, Failure};
use crate::provisioning::escape;
use crate::server::Controller;

/// The service of the log aggregators; the leader has every host's lines.
const SERVICE: &str = "logaggregator";
/// Instance metadata: where an aggregator's HTTP is, when not on port 80.
const HTTP_PORT: &str = "http_port";
/// What a log is without a word on streams: what the program printed.
const STREAMS: &str = "stdout,stderr";
/// How long the aggregator may take to begin its answer.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer that does not follow may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest line that is waited for; aggregators cut far before it.
const MAX_LINE: usize = 1 << 20;

/// `GET /apps/A/log`
pub(crate) async fn get(
    State(controller): State<Controller>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<Response> {
    let app = apps::find_id(&controller.client().await?, &app).await?;
    let is_following = last(&pairs, "follow") == Some("true");
    let url = format!("{}/log/{app}?{}", leader(&controller).await?, query(&pairs)?);
    let answer = controller.http().send(Request::get(&url).timeout(HEAD)).await;
    let answer = answer.map_err(|error| refused(&error))?;
    let pieces = answer.into_stream(if is_following { None } else { Some(SILENCE) });
    let pieces = pieces.take_until(controller.tasks().stop_token().cancelled_owned());
    if sse::wants_sse(&headers) {
        return Ok(sse::response(events(pieces)));
    }
    Ok(([(CONTENT_TYPE, "text/plain")], Body::from_stream(pieces)).into_response())
}

/// The base URL of the aggregator to ask.
async fn leader(controller: &Controller) -> Answer<String> {
    let away = || Failure::Api(ApiError::service_unavailable("no log aggregator is there"));
    let discoverd = controller.config().discoverd.as_ref().ok_or_else(away)?;
    let leader = discoverd.leader(SERVICE).await.map_err(|error| {
        tracing::warn!(%error, "log aggregators could not be listed");
        away()
    })?;
    leader.as_ref().and_then(base).ok_or_else(away)
}

fn base(leader: &Instance) -> Option<String> {
    let ip = leader.host()?;
    Some(match leader.meta.get(HTTP_PORT) {
        Some(port) => format!("http://{ip}:{port}"),
        None => format!("http://{ip}"),
    })
}

/// The aggregator's query. A number of lines below one means all.
fn query(pairs: &[(String, String)]) -> Answer<String> {
    let mut query =
        format!("stream_types={}", escape(last(pairs, "stream_types").unwrap_or(STREAMS)));
    for name in ["follow", "job_id", "process_type"] {
        // Empty selects the processes without a type; for the others it is as good as absent.
        if let Some(value) =
            last(pairs, name).filter(|value| name == "process_type" || !value.is_empty())
        {
            query += &format!("&{name}={}", escape(value));
        }
    }
    if let Some(lines) = last(pairs, "lines").filter(|lines| !lines.is_empty()) {
        let number: i64 =
            lines.parse().map_err(|_| Failure::field("lines", "must be an integer"))?;
        if number > 0 {
            query += &format!("&lines={number}");
        }
    }
    Ok(query)
}

fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What the aggregator found wrong with the query is the caller's to know.
fn refused(error: &ClientError) -> Failure {
    match error.api() {
        Some(refusal) => refusal.clone().into(),
        None => {
            tracing::warn!(%error, "log aggregator did not answer");
            ApiError::service_unavailable("the log aggregator cannot be reached").into()
        }
    }
}

/// An event per line, and one for the end.
fn events(
    pieces: impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
) -> impl Stream<Item = sse::Event> + Send + 'static {
    let start = Some((Box::pin(pieces), BytesMut::new()));
    stream::unfold(start, async |state| {
        let (mut pieces, mut buffer) = state?;
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                return Some((message(&line[..end]), Some((pieces, buffer))));
            }
            match pieces.next().await {
                Some(Ok(piece)) if buffer.len() <= MAX_LINE => buffer.extend_from_slice(&piece),
                Some(Ok(_)) => return Some((sse::Event::error("log line is too long"), None)),
                Some(Err(error)) => return Some((sse::Event::error(error.to_string()), None)),
                None => return Some((sse::Event::data(r#"{"event":"eof"}"#), None)),
            }
        }
    })
}

fn message(line: &[u8]) -> sse::Event {
    let line = String::from_utf8_lossy(line);
    sse::Event::data(format!(r#"{{"event":"message","data":{line}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_query_becomes_the_aggregators() {
        let all = "stream_types=stdout%2Cstderr";
        for (given, want) in [
            (&[][..], all.to_owned()),
            (&[("lines", "0")], all.to_owned()),
            (&[("lines", "-1")], all.to_owned()),
            (&[("lines", "7"), ("follow", "true")], format!("{all}&follow=true&lines=7")),
            (&[("process_type", "web"), ("process_type", "")], format!("{all}&process_type=")),
            (&[("job_id", "h-a b"), ("other", "x")], format!("{all}&job_id=h-a%20b")),
            (&[("stream_types", "init")], "stream_types=init".to_owned()),
        ] {
            assert_eq!(query(&pairs(given)).ok(), Some(want), "{given:?}");
        }
        assert!(query(&pairs(&[("lines", "x")])).is_err());
    }

    #[tokio::test]
    async fn lines_become_events_and_end_with_one() {
        let pieces = ["{\"msg\":\"a\"}\n{\"ms", "g\":\"b\"}\n"];
        let pieces = stream::iter(pieces.map(|piece| Ok(Bytes::from_static(piece.as_bytes()))));
        let text: Vec<_> = events(pieces).map(|event| event.encode()).collect().await;
        assert_eq!(
            text.concat(),
            b"data: {\"event\":\"message\",\"data\":{\"msg\":\"a\"}}\n\n\
             data: {\"event\":\"message\",\"data\":{\"msg\":\"b\"}}\n\n\
             data: {\"event\":\"eof\"}\n\n"
        );
    }
}
