//! The `Authorization` header: basic keys and bearer tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD};

/// What a client showed. Secrets: passwords and tokens never show.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A key.
    Basic {
        /// Not looked at by our services.
        user: String,
        /// The key.
        password: String,
    },
    /// A token: of a `Bearer` header, or the password of a user named `Bearer`.
    Bearer(String),
}

impl Credentials {
    /// Reads a header's value; None for other schemes and for what is damaged.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decode = |engine: &GeneralPurpose| engine.decode(rest).ok();
        let text = decode(&STANDARD).or_else(|| decode(&STANDARD_NO_PAD))?;
        let text = String::from_utf8(text).ok()?;
        let (user, password) = text.split_once(':')?;
        let (user, password) = (user.to_owned(), password.to_owned());
        Some(if user == "Bearer" { Self::Bearer(password) } else { Self::Basic { user, password } })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => {
                f.debug_struct("Basic").field("user", user).finish_non_exhaustive()
            }
            Self::Bearer(_) => f.debug_struct("Bearer").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_clients_write_them() {
        let basic = |user: &str, password: &str| {
            Some(Credentials::Basic { user: user.into(), password: password.into() })
        };
        let bearer = |token: &str| Some(Credentials::Bearer(token.into()));
        for (text, want) in [
            (format!("Basic {}", STANDARD.encode(":key")), basic("", "key")),
            (format!("basic {}", STANDARD_NO_PAD.encode("any:k:e:y")), basic("any", "k:e:y")),
            (format!("Basic {}", STANDARD.encode("Bearer:token")), bearer("token")),
            ("Bearer abc.def".to_owned(), bearer("abc.def")),
            ("Basic §".to_owned(), None),
            (format!("Basic {}", STANDARD.encode("no colon")), None),
            (format!("Basic {}", STANDARD.encode(b":\xff")), None),
            ("Digest x".to_owned(), None),
            ("Basic".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Credentials::parse(&text), want, "{text}");
        }
        assert!(!format!("{:?}", bearer("secret")).contains("secret"));
        assert!(!format!("{:?}", basic("u", "secret")).contains("secret"));
    }
}
