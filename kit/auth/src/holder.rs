//! What credentials are worth: a key opens everything, a build token what its build is for. How that is
//! spelt out is each service's decision.

use kit_clock::Wall;

use crate::{BuildScope, Credentials, Keys};

/// Whoever showed good credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A holder of a key.
    Key,
    /// A build.
    Build(BuildScope),
}

impl Keys {
    /// Who shows these credentials; None for nobody we know. A build may show its token as a bearer
    /// token or, like the key it is given in place of, as a password.
    pub fn holder(&self, credentials: &Credentials, now: Wall) -> Option<Holder> {
        if self.accept(credentials) {
            return Some(Holder::Key);
        }
        let token = match credentials {
            Credentials::Bearer(token) => token,
            Credentials::Basic { password, .. } => password,
        };
        self.verify(token, now).ok().map(Holder::Build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_token_is_taken_in_both_forms_and_opens_no_more_in_either() {
        let keys = Keys::parse("key");
        let at = |seconds| Wall::from_epoch(Duration::from_secs(seconds));
        let scope = BuildScope {
            app: "0f0e0d0c-1111-4222-8333-abcdefabcdef".parse().unwrap(),
            artifact: "0f0e0d0c-2222-4222-8333-abcdefabcdef".parse().unwrap(),
            expires: at(100),
        };
        let token = keys.mint(&scope).unwrap();
        let basic =
            |password: &str| Credentials::Basic { user: String::new(), password: password.into() };
        let build = Some(Holder::Build(scope));
        assert_eq!(keys.holder(&basic("key"), at(0)), Some(Holder::Key));
        assert_eq!(keys.holder(&basic(&token), at(0)), build);
        assert_eq!(keys.holder(&Credentials::Bearer(token.clone()), at(0)), build);
        assert_eq!(keys.holder(&Credentials::Bearer(token), at(100)), None);
        assert_eq!(keys.holder(&Credentials::Bearer("key".into()), at(0)), None);
        assert_eq!(keys.holder(&basic(""), at(0)), None);
    }
}
