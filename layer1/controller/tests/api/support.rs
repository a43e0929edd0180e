//! A controller on a fresh database, and answers in a form that can be compared: ids become letters in
//! the order of their first appearance, times become `<t>`.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::Config;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use kit_auth::Keys;
use kit_http::{Client, Request};
use kit_pg::test_server::TestDatabase;
use kit_tasks::{Running, Tasks};

/// Far above what anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const KEY: &str = "key";

/// A running controller.
pub(crate) struct Server {
    pub(crate) database: TestDatabase,
    pub(crate) running: Running,
    pub(crate) http: Client,
    tasks: Tasks,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let database = TestDatabase::create().await;
        let mut config = config(&database);
        change(&mut config);
        let tasks = Tasks::root("test");
        let running = controller::start(config, &tasks).await.expect("a controller");
        let http = client(&running, KEY);
        let server = Self { database, running, http, tasks };
        server.wait_until_ready().await;
        server
    }

    pub(crate) fn api(&self) -> controller_api::Client {
        controller_api::Client::from_http(self.http.clone())
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Answer {
        let mut request = Request::new(method, path);
        if !body.is_empty() {
            request = request.body(body.to_owned());
        }
        send(&self.http, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "").await
    }

    /// Runs SQL behind the controller's back.
    pub(crate) async fn sql(&self, text: &str) {
        let client = self.database.pool().client().await.expect("a connection");
        client.batch_execute(text).await.expect("the SQL runs");
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(DEADLINE).await;
    }

    async fn wait_until_ready(&self) {
        let ready = async {
            while self.get("/apps").await.status == 503 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.expect("ready in time");
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A field of the body.
    pub(crate) fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }

    /// Status and body in one line.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.status, self.body)
    }
}

pub(crate) fn config(database: &TestDatabase) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        keys: Keys::parse("key,other"),
        database: database.settings().clone(),
        default_route_domain: None,
        ca_cert: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        discoverd: None,
        advertise: None,
        version: "dev".to_owned(),
    }
}

pub(crate) fn client(running: &Running, key: &str) -> Client {
    Client::builder(&format!("http://{}", running.addr())).key(key).build().expect("a client")
}

pub(crate) async fn send(http: &Client, request: Request) -> Answer {
    let answer = http.send_raw(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let content_type = answer.headers().get(CONTENT_TYPE);
    let content_type = content_type.map(|value| value.to_str().expect("text").to_owned());
    let body = answer.bytes().await.expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("text");
    Answer { status, content_type: content_type.unwrap_or_default(), body }
}

/// A GET with this `Accept`.
pub(crate) fn accepting(path: &str, accept: &str) -> Request {
    Request::get(path).header(ACCEPT, accept).expect("a header")
}

/// A request with this header.
pub(crate) fn with_header(request: Request, name: &'static str, value: &str) -> Request {
    request.header(HeaderName::from_static(name), value).expect("a header")
}

/// Ids become letters, times `<t>`. One of these for a whole test keeps the letters.
#[derive(Default)]
pub(crate) struct Redaction {
    ids: BTreeMap<String, char>,
}

impl Redaction {
    pub(crate) fn redact(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(id) = rest.get(..36).filter(|id| kit_ids::is_uuid(id)) {
                let next = char::from(b'A' + u8::try_from(self.ids.len()).expect("few ids"));
                shown.push('<');
                shown.push(*self.ids.entry(id.to_owned()).or_insert(next));
                shown.push('>');
                rest = &rest[36..];
            } else if let Some(length) = time_length(rest) {
                shown.push_str("<t>");
                rest = &rest[length..];
            } else {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        shown
    }
}

/// How long the time is that the text begins with, if it does. The zero time and those that a test
/// itself states are shown.
fn time_length(text: &str) -> Option<usize> {
    let length = text.find('Z').filter(|at| (19..=26).contains(at))? + 1;
    let at: controller_api::Timestamp = text.get(..length)?.parse().ok()?;
    (at.0.timestamp()
        - controller_api::Timestamp(std::time::SystemTime::now().into()).0.timestamp())
    .abs()
    .lt(&3600)
    .then_some(length)
}
