//! The keys of a service, and the constant-time check against them.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::Credentials;

/// The keys a service accepts. Secrets: their text never shows.
#[derive(Clone)]
pub struct Keys(Vec<String>);

impl Keys {
    /// The keys of a comma list such as `AUTH_KEY`; empty ones do not count.
    pub fn parse(list: &str) -> Self {
        let keys = list.split(',').map(str::trim).filter(|key| !key.is_empty());
        Self(keys.map(str::to_owned).collect())
    }

    /// Whether there is none, so that nobody is let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first key, which is the one to use oneself.
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// Whether a key is one of these. All are compared, in constant time; lengths do not show, because
    /// digests are what is compared. The empty key is never one.
    pub fn contains(&self, key: &str) -> bool {
        let given = Sha256::digest(key);
        let same = |known: &String| Sha256::digest(known).ct_eq(&given);
        let any = self.0.iter().map(same).fold(Choice::from(0), |any, same| any | same);
        bool::from(any) && !key.is_empty()
    }

    /// Whether credentials hold one of these keys; the user name does not matter. Bearer tokens are no
    /// keys.
    pub fn accept(&self, credentials: &Credentials) -> bool {
        match credentials {
            Credentials::Basic { password, .. } => self.contains(password),
            Credentials::Bearer(_) => false,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_of_the_list_are_accepted() {
        let keys = Keys::parse("one, two,,three ");
        for good in ["one", "two", "three"] {
            assert!(keys.contains(good), "{good}");
        }
        for bad in ["", "on", "onee", "one,two", " one", "ONE", ","] {
            assert!(!keys.contains(bad), "{bad:?}");
        }
        assert_eq!(keys.first(), Some("one"));
    }

    #[test]
    fn no_keys_let_nobody_in() {
        for list in ["", ",", " , "] {
            let keys = Keys::parse(list);
            assert!(keys.is_empty());
            assert!(!keys.contains("") && !keys.contains(","));
        }
    }

    #[test]
    fn keys_do_not_show() {
        assert_eq!(format!("{:?}", Keys::parse("secret")), "Keys(1 keys)");
    }
}
