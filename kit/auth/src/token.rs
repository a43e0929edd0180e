//! Build tokens: an HMAC over what one build may do and until when. Whoever holds the cluster's key can
//! make and check them; nothing is stored.
//!
//! Form: `build1.<base64url of APP/ARTIFACT/EXPIRY>.<base64url of HMAC-SHA256>`, expiry in seconds since
//! the epoch.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use kit_clock::Wall;
use kit_ids::{AppId, ArtifactId};
use sha2::Sha256;

use crate::Keys;

/// The form's name; a change of form gets another, so that no token is ever read in two ways.
const FORM: &str = "build1";

/// What is hashed before the payload: the key has other uses, whose hashes must never be tokens.
const CONTEXT: &[u8] = b"flynn build token 1\0";

/// What the holder of a build token may act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildScope {
    /// The app that is built.
    pub app: AppId,
    /// The one artifact (slug) that the build makes.
    pub artifact: ArtifactId,
    /// When the token stops working.
    pub expires: Wall,
}

impl BuildScope {
    /// How long a build may use its token.
    pub const LIFETIME: Duration = Duration::from_secs(3600);
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the form of a token.
    #[error("not a build token")]
    Form,
    /// Not made with one of the keys.
    #[error("the build token's signature is wrong")]
    Signature,
    /// Too old.
    #[error("the build token has expired")]
    Expired,
}

impl Keys {
    /// Makes a token with the first key; None when there is no key.
    pub fn mint(&self, scope: &BuildScope) -> Option<String> {
        let expires = scope.expires.since_epoch().as_secs();
        let payload = format!("{}/{}/{expires}", scope.app, scope.artifact);
        let payload = URL_SAFE_NO_PAD.encode(payload);
        let signature =
            URL_SAFE_NO_PAD.encode(mac(self.first()?, &payload).finalize().into_bytes());
        Some(format!("{FORM}.{payload}.{signature}"))
    }

    /// What a token allows, if one of the keys made it and it has not expired.
    pub fn verify(&self, token: &str, now: Wall) -> Result<BuildScope, TokenError> {
        let form = token.strip_prefix(FORM).and_then(|rest| rest.strip_prefix('.'));
        let (payload, signature) =
            form.and_then(|rest| rest.split_once('.')).ok_or(TokenError::Form)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Form)?;
        // verify_slice compares in constant time.
        if !self.iter().any(|key| mac(key, payload).verify_slice(&signature).is_ok()) {
            return Err(TokenError::Signature);
        }
        let scope = parse(payload).ok_or(TokenError::Form)?;
        if now >= scope.expires { Err(TokenError::Expired) } else { Ok(scope) }
    }
}

fn mac(key: &str, payload: &str) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(CONTEXT);
    mac.update(payload.as_bytes());
    mac
}

fn parse(payload: &str) -> Option<BuildScope> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let mut parts = text.split('/');
    let (app, artifact, expires) = (parts.next()?, parts.next()?, parts.next()?);
    let expires = Wall::from_epoch(Duration::from_secs(expires.parse().ok()?));
    let is_whole = parts.next().is_none();
    is_whole.then_some(BuildScope {
        app: app.parse().ok()?,
        artifact: artifact.parse().ok()?,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> Wall {
        Wall::from_epoch(Duration::from_secs(seconds))
    }

    fn scope() -> BuildScope {
        BuildScope {
            app: "0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap(),
            artifact: "0f0e0d0c-2222-4222-8333-abcdefabcdef".parse().unwrap(),
            expires: at(NOW + 3600),
        }
    }

    #[test]
    fn a_token_allows_its_scope_until_it_expires() {
        let keys = Keys::parse("key");
        let token = keys.mint(&scope()).unwrap();
        assert_eq!(keys.verify(&token, at(NOW)), Ok(scope()));
        assert_eq!(keys.verify(&token, at(NOW + 3599)), Ok(scope()));
        assert_eq!(keys.verify(&token, at(NOW + 3600)), Err(TokenError::Expired));
    }

    #[test]
    fn a_rotated_key_still_verifies_and_a_foreign_one_does_not() {
        let token = Keys::parse("old").mint(&scope()).unwrap();
        assert!(Keys::parse("new,old").verify(&token, at(NOW)).is_ok());
        assert_eq!(Keys::parse("new").verify(&token, at(NOW)), Err(TokenError::Signature));
        assert_eq!(Keys::parse("").verify(&token, at(NOW)), Err(TokenError::Signature));
        assert_eq!(Keys::parse("").mint(&scope()), None);
    }

    #[test]
    fn no_changed_token_is_accepted() {
        let keys = Keys::parse("key");
        let token = keys.mint(&scope()).unwrap();
        for at_byte in 0..token.len() {
            for other in ["A", "B", ".", "-"] {
                let mut changed = token.clone();
                changed.replace_range(at_byte..=at_byte, other);
                if changed != token {
                    assert!(
                        keys.verify(&changed, at(NOW)).is_err(),
                        "{at_byte} {other}: {changed}"
                    );
                }
            }
            assert!(keys.verify(&token[..at_byte], at(NOW)).is_err());
        }
        // Another scope under this token's signature.
        let other =
            BuildScope { app: "0f0e0d0c-3333-4222-8333-abcdefabcdef".parse().unwrap(), ..scope() };
        let forged = Keys::parse("mine").mint(&other).unwrap();
        let (head, _) = forged.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(
            keys.verify(&format!("{head}.{signature}"), at(NOW)),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn a_key_is_no_token_and_a_token_no_key() {
        let keys = Keys::parse("key");
        assert_eq!(keys.verify("key", at(NOW)), Err(TokenError::Form));
        assert!(!keys.contains(&keys.mint(&scope()).unwrap()));
    }
}
