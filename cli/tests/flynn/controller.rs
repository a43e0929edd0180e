//! A controller that answers what a test told it, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

/// A scripted controller, listening until the test ends.
pub(crate) struct Controller {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    answers: BTreeMap<String, Vec<(StatusCode, String)>>,
    asked: Vec<String>,
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, script }
    }

    /// Answers `call`, such as `GET /apps`, with JSON. Told twice, the second time it answers the second.
    pub(crate) fn answer(&self, call: &str, json: &str) -> &Self {
        self.answer_status(call, 200, json)
    }

    pub(crate) fn answer_status(&self, call: &str, status: u16, body: &str) -> &Self {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.answers.entry(call.to_owned()).or_default().push((status, body.to_owned()));
        drop(script);
        self
    }

    /// Answers `call` with a stream of events.
    pub(crate) fn events(&self, call: &str, events: &[&str]) -> &Self {
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        self.answer(call, &stream)
    }

    /// All requests that changed something: method, path, body.
    pub(crate) fn changes(&self) -> Vec<String> {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.asked.iter().filter(|asked| !asked.starts_with("GET ")).cloned().collect()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let key = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let call = format!("{} {}", parts.method, parts.uri);
    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
    script.asked.push(format!("{call} {}", String::from_utf8_lossy(&body)).trim_end().to_owned());
    let known = script.answers.get_mut(&call);
    let answer = known.map(|list| if list.len() > 1 { list.remove(0) } else { list[0].clone() });
    // The key of the tests is `kk`: the header is that of the specification.
    let (status, text) = match (key, answer) {
        (Some("Basic Omtr"), Some(answer)) => answer,
        (Some("Basic Omtr"), None) => (StatusCode::NOT_FOUND, String::new()),
        (Some(_) | None, _) => (StatusCode::UNAUTHORIZED, String::new()),
    };
    let kind = if text.starts_with("data: ") { "text/event-stream" } else { "application/json" };
    let mut response = Response::new(Body::from(text.clone()));
    *response.status_mut() = status;
    if !text.is_empty() {
        let value = axum::http::HeaderValue::from_static(kind);
        response.headers_mut().insert("content-type", value);
    }
    response
}
