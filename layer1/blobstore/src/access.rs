//! Who may do what with a file. Slugs and layers are read by anybody who can connect, because hosts fetch
//! them and check their digests; sources and caches of apps are their owners' business. A build writes
//! only its app's cache and files that are named by their own digest, so that it can replace nothing that
//! others rely on.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use kit_auth::{Credentials, Holder, Keys};
use kit_clock::Wall;
use kit_ids::AppId;

/// Whether a request may do `method` with the file `name`.
pub(crate) fn is_allowed(
    keys: &Keys,
    now: Wall,
    method: &Method,
    headers: &HeaderMap,
    name: &str,
) -> bool {
    // Without a key everybody who can connect may do everything.
    if keys.is_empty() {
        return true;
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let holder = header.and_then(Credentials::parse).and_then(|shown| keys.holder(&shown, now));
    let reads = *method == Method::GET || *method == Method::HEAD;
    match holder {
        Some(Holder::Key) => true,
        Some(Holder::Build(scope)) if reads => !is_private(name) || is_cache(name, &scope.app),
        Some(Holder::Build(scope)) => {
            let writes_whole = *method == Method::PUT && !draws_on_other_files(headers);
            writes_whole && (digest(name).is_some() || is_cache(name, &scope.app))
        }
        None => reads && !is_private(name),
    }
}

/// The SHA-512/256 that a file of this name must have, hex; None where names say nothing of contents.
pub(crate) fn digest(name: &str) -> Option<&str> {
    let layer = name.strip_prefix("/slugs/layers/").and_then(|name| name.strip_suffix(".squashfs"));
    let manifest = || name.strip_prefix("/slugs/images/")?.strip_suffix(".json");
    let digest = layer.or_else(manifest)?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digest.len() == 64 && digest.bytes().all(is_hex)).then_some(digest)
}

/// Repositories and build caches hold what apps are made of.
fn is_private(name: &str) -> bool {
    name.starts_with("/repos/") || name.ends_with("-cache.tgz")
}

fn is_cache(name: &str, app: &AppId) -> bool {
    name.strip_prefix('/').and_then(|name| name.strip_suffix("-cache.tgz")) == Some(app.as_str())
}

/// A copy would show a build what it may not read.
fn draws_on_other_files(headers: &HeaderMap) -> bool {
    headers.contains_key("blobstore-copy-from") || headers.contains_key("blobstore-offset")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use kit_auth::BuildScope;
    use std::time::Duration;

    const APP: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdef";
    const OTHER: &str = "0f0e0d0c-9999-4222-8333-abcdefabcdef";

    #[test]
    fn everybody_has_what_is_theirs() {
        let keys = Keys::parse("key");
        let now = Wall::from_epoch(Duration::from_secs(1_800_000_000));
        let scope = BuildScope {
            app: APP.parse().unwrap(),
            artifact: OTHER.parse().unwrap(),
            expires: Wall::from_epoch(now.since_epoch() + Duration::from_secs(1)),
        };
        let token = format!("Bearer {}", keys.mint(&scope).unwrap());
        // Base64 of ":key".
        let shown = ["", token.as_str(), "Basic OmtleQ=="];
        let hex = "0123456789abcdef".repeat(4);
        let allowed = |method: &Method, name: &str, extra: Option<&'static str>| {
            shown.map(|shown| {
                let mut headers = HeaderMap::new();
                if let Ok(value) = HeaderValue::from_str(shown) {
                    headers.insert(AUTHORIZATION, value);
                }
                if let Some(name) = extra {
                    headers.insert(name, HeaderValue::from_static("/x"));
                }
                is_allowed(&keys, now, method, &headers, name)
            })
        };
        let layer = format!("/slugs/layers/{hex}.squashfs");
        let manifest = format!("/slugs/images/{hex}.json");
        for (method, name, extra, want) in [
            (Method::GET, layer.as_str(), None, [true, true, true]),
            (Method::GET, "/any", None, [true, true, true]),
            (Method::GET, &format!("/repos/{APP}.tar"), None, [false, false, true]),
            (Method::HEAD, &format!("/repos/{APP}.tar"), None, [false, false, true]),
            (Method::GET, &format!("/{APP}-cache.tgz"), None, [false, true, true]),
            (Method::GET, &format!("/{OTHER}-cache.tgz"), None, [false, false, true]),
            (Method::PUT, &format!("/{APP}-cache.tgz"), None, [false, true, true]),
            (Method::PUT, &format!("/{OTHER}-cache.tgz"), None, [false, false, true]),
            (Method::PUT, &format!("/x/{APP}-cache.tgz"), None, [false, false, true]),
            (Method::PUT, &layer, None, [false, true, true]),
            (Method::PUT, &manifest, None, [false, true, true]),
            (Method::PUT, &layer, Some("blobstore-copy-from"), [false, false, true]),
            (Method::PUT, &layer, Some("blobstore-offset"), [false, false, true]),
            (Method::PUT, "/slugs/layers/x.squashfs", None, [false, false, true]),
            (Method::PUT, &format!("/{OTHER}"), None, [false, false, true]),
            (Method::DELETE, &layer, None, [false, false, true]),
            (Method::DELETE, &format!("/{APP}-cache.tgz"), None, [false, false, true]),
        ] {
            assert_eq!(allowed(&method, name, extra), want, "{method} {name} {extra:?}");
        }
    }
}
