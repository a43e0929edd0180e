//! The server: which file a path means, and how it is sent.

use std::fs::Metadata;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

use crate::media;
use crate::settings::Settings;

/// The longest path that is looked up.
const MAX_PATH: usize = 4096;
/// Files of the app that are no part of the site.
const OWN: [&str; 3] = ["Procfile", "Staticfile", "static.json"];

/// Why a site is not served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not to be had.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// There is nothing to serve.
    #[error("the folder {} is not there", .0.display())]
    Root(PathBuf, #[source] io::Error),
}

#[derive(Debug)]
struct Site {
    settings: Settings,
    /// The folder without links in its path.
    root: PathBuf,
    release: String,
}

/// Serves a site. `release` is what tells two versions of equally large files apart, because files of a
/// slug have no times.
///
/// # Errors
/// When the folder is not there or the address is taken.
pub async fn start(
    settings: Settings,
    listen: SocketAddr,
    release: &str,
    tasks: &Tasks,
) -> Result<Running, StartError> {
    let root = settings.root.canonicalize();
    let root = root.map_err(|error| StartError::Root(settings.root.clone(), error))?;
    let failed = |error| StartError::Listen(listen, error);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let site = Arc::new(Site { settings, root, release: release.to_owned() });
    let router = Router::new().fallback(handle).with_state(site);
    kit_http::serve(&tasks.child("site"), listener, router).map_err(failed)
}

async fn handle(
    State(site): State<Arc<Site>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    let with_body = method == Method::GET;
    match site.look_up(uri.path()) {
        Found::File(path) => site.send(&path, StatusCode::OK, &headers, with_body).await,
        Found::Folder => moved(&uri),
        Found::Nothing => match site.page(site.settings.error_page.as_deref()) {
            Some(page) => site.send(&page, StatusCode::NOT_FOUND, &headers, with_body).await,
            None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        },
    }
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    File(PathBuf),
    /// A folder with an index, asked for without the slash its relative links need.
    Folder,
    Nothing,
}

impl Site {
    fn look_up(&self, path: &str) -> Found {
        let Some(relative) = relative(path) else { return Found::Nothing };
        let is_folder = path.ends_with('/');
        if let Some(found) = self.inside(&relative) {
            if found.is_file() && !is_folder {
                return Found::File(found);
            }
            let index = relative.join("index.html");
            if let Some(index) = self.page(Some(&index)) {
                return if is_folder { Found::File(index) } else { Found::Folder };
            }
        }
        let clean = self.settings.clean_urls && !is_folder;
        let page = clean.then(|| PathBuf::from(format!("{}.html", relative.display())));
        let page = self.page(page.as_deref());
        page.or_else(|| self.page(self.settings.fallback.as_deref()))
            .map_or(Found::Nothing, Found::File)
    }

    fn page(&self, relative: Option<&Path>) -> Option<PathBuf> {
        self.inside(relative?).filter(|page| page.is_file())
    }

    /// What is there, links followed, if it lies in the folder.
    fn inside(&self, relative: &Path) -> Option<PathBuf> {
        let real = self.root.join(relative).canonicalize().ok()?;
        real.starts_with(&self.root).then_some(real)
    }

    async fn send(
        &self,
        path: &Path,
        status: StatusCode,
        asked: &HeaderMap,
        with_body: bool,
    ) -> Response {
        let opened = async {
            let file = tokio::fs::File::open(path).await?;
            let metadata = file.metadata().await?;
            Ok::<_, io::Error>((file, metadata))
        };
        let Ok((file, metadata)) = opened.await else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let tag = self.tag(&metadata);
        let mut response = if status == StatusCode::OK && is_known(asked, &tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let body = if with_body {
                Body::from_stream(ReaderStream::with_capacity(file, 64 << 10))
            } else {
                Body::empty()
            };
            let kind = [(CONTENT_TYPE, HeaderValue::from_static(media::of(path)))];
            let length = [(CONTENT_LENGTH, HeaderValue::from(metadata.len()))];
            (status, kind, length, body).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    }

    fn tag(&self, metadata: &Metadata) -> String {
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default().as_nanos();
        format!("\"{}-{:x}-{modified:x}\"", self.release, metadata.len())
    }
}

fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(','));
    tags.any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*")
}

/// To the same path with a slash, on this host: two slashes in front would name another.
fn moved(uri: &Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    match HeaderValue::from_str(&format!("/{path}/{query}")) {
        Ok(location) => (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file a path asks for, below the folder; None for what is never served: ways upwards, hidden
/// files, the app's own.
fn relative(path: &str) -> Option<PathBuf> {
    if path.len() > MAX_PATH {
        return None;
    }
    let mut relative = PathBuf::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let part = decode(part)?;
        let is_odd = part.starts_with('.') || part.contains(['/', '\0', '\\']);
        if is_odd {
            return None;
        }
        relative.push(part);
    }
    let is_own = OWN.iter().any(|own| relative == Path::new(own));
    (!is_own).then_some(relative)
}

/// Percent-decoding; None for what is damaged.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_http::{Client, Request};
    use proptest::prelude::*;
    use std::fs;
    use std::time::Duration;

    fn files(root: &Path) {
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::create_dir_all(root.join("empty")).unwrap();
        for name in [
            "index.html",
            "about.html",
            "docs/index.html",
            "a b.txt",
            ".env",
            "Procfile",
            "404.html",
        ] {
            fs::write(root.join(name), format!("this is {name}")).unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", root.join("out")).unwrap();
    }

    #[tokio::test]
    async fn a_site_is_served_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path());
        let settings = Settings {
            root: dir.path().to_owned(),
            clean_urls: true,
            error_page: Some("404.html".into()),
            fallback: None,
        };
        let tasks = Tasks::root("test");
        let running = start(settings, ([127, 0, 0, 1], 0).into(), "r1", &tasks).await.unwrap();
        let client = Client::new(&format!("http://{}", running.addr())).unwrap();
        for (path, status, text) in [
            ("/", 200, "this is index.html"),
            ("/about", 200, "this is about.html"),
            ("/docs/", 200, "this is docs/index.html"),
            ("/docs", 200, "this is docs/index.html"),
            ("/a%20b.txt", 200, "this is a b.txt"),
            ("/.env", 404, "this is 404.html"),
            ("/%2e%2e/%2e%2e/etc/passwd", 404, "this is 404.html"),
            ("/docs/..%2f.env", 404, "this is 404.html"),
            ("/Procfile", 404, "this is 404.html"),
            ("/out", 404, "this is 404.html"),
            ("/empty/", 404, "this is 404.html"),
            ("/about.html/", 404, "this is 404.html"),
        ] {
            let answer = client.send_raw(Request::get(path)).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            assert_eq!(answer.bytes().await.unwrap(), text, "{path}");
        }
        let first = client.send_raw(Request::get("/")).await.unwrap();
        assert_eq!(first.headers()["content-type"], "text/html; charset=utf-8");
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        let again = Request::get("/").header(IF_NONE_MATCH, &tag).unwrap();
        assert_eq!(client.send_raw(again).await.unwrap().status().as_u16(), 304);
        let head = client.send_raw(Request::new(Method::HEAD, "/")).await.unwrap();
        assert_eq!(head.headers()["content-length"], "18");
        let post = client.send_raw(Request::new(Method::POST, "/")).await.unwrap();
        assert_eq!(post.status().as_u16(), 405);
        running.stop(Duration::from_secs(30)).await;
    }

    #[test]
    fn a_fallback_answers_every_path() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path());
        let root = dir.path().canonicalize().unwrap();
        let settings = Settings {
            root: root.clone(),
            clean_urls: false,
            error_page: None,
            fallback: Some("index.html".into()),
        };
        let site = Site { settings, root: root.clone(), release: String::new() };
        assert_eq!(site.look_up("/any/where"), Found::File(root.join("index.html")));
        assert_eq!(site.look_up("/about.html"), Found::File(root.join("about.html")));
        assert_eq!(site.look_up("/.env"), Found::Nothing);
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "(/(\\.|\\.\\.|%2e|%2F|a|%00|%|%zz|\\\\)*){0,6}") {
            if let Some(relative) = relative(&path) {
                let is_plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(relative.components().all(is_plain), "{path}");
            }
        }
    }
}
