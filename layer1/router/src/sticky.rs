//! Sticky sessions: the cookie that names a backend without telling its address. A keyed digest of
//! service and address, made once per backend, so that a request only compares texts; every router
//! with the same key makes the same token.

use std::fmt;

use ::http::header::COOKIE;
use ::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const COOKIE_NAME: &str = "_backend";

/// Long enough that no two backends of a cluster share a token.
const TOKEN_BYTES: usize = 24;

/// The key all routers of a cluster share.
#[derive(Clone)]
pub struct CookieKey([u8; 32]);

impl CookieKey {
    /// The key of the environment: base64 of exactly 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The token of a backend.
    pub(crate) fn token(&self, service: &str, addr: &str) -> String {
        // HMAC takes keys of any length; the fallback is never used.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(service.as_bytes());
        mac.update(b"\0");
        mac.update(addr.as_bytes());
        STANDARD.encode(&mac.finalize().into_bytes()[..TOKEN_BYTES])
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey([redacted])")
    }
}

/// The token a client brought, if any.
pub(crate) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|c| c.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE_NAME).map(|(_, token)| token.trim())
}

/// The `Set-Cookie` that keeps a client with a backend.
pub(crate) fn set_cookie(token: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{COOKIE_NAME}={token}; Path=/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_service_and_address_and_needs_the_key() {
        let key = |byte: u8| CookieKey::from_base64(&STANDARD.encode([byte; 32])).unwrap();
        let token = key(1).token("web", "10.0.0.1:80");
        assert_eq!(token, key(1).token("web", "10.0.0.1:80"));
        for other in [
            key(2).token("web", "10.0.0.1:80"),
            key(1).token("web", "10.0.0.2:80"),
            key(1).token("api", "10.0.0.1:80"),
        ] {
            assert_ne!(token, other);
        }
        assert!(CookieKey::from_base64(&STANDARD.encode([1; 31])).is_none());
        assert!(CookieKey::from_base64("?").is_none());
        assert!(!format!("{:?}", key(1)).contains("1, 1"));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(token_of(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; x_backend=n"));
        headers.append(COOKIE, HeaderValue::from_static("c=d;_backend=ab+/=; e=f"));
        assert_eq!(token_of(&headers), Some("ab+/="));
        assert_eq!(set_cookie("t=").unwrap(), "_backend=t=; Path=/");
    }
}
