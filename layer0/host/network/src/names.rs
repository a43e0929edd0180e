//! Names of kernel objects, checked before they go into a rule set or a path.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a name the kernel takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no {what} name: it must be 1 to {max} characters of a-z, 0-9, '_', starting with a letter"
)]
pub struct NameError {
    what: &'static str,
    max: usize,
    text: String,
}

/// Makes a newtype over a checked name.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($what:literal, $max:literal),)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The name as the kernel knows it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_name(text, $max) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, max: $max, text: text.to_owned() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The bridge that all jobs of a host hang on. A link's name has at most 15 characters.
    BridgeName("bridge", 15),
    /// The nftables table of a host (one of family inet, one of family netdev, same name).
    TableName("nftables table", 32),
    /// What the names of a host's veth links begin with; eight hex digits of the address follow.
    VethPrefix("veth prefix", 7),
}

/// Nothing that has a meaning in nft's language or in a path passes.
fn is_name(text: &str, max: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= max
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_carry_rules_or_paths() {
        assert_eq!("flynnbr0".parse::<BridgeName>().unwrap().as_str(), "flynnbr0");
        let long = "a".repeat(16);
        for bad in ["", "0a", "a b", "a;drop", "../a", "a\"", "A", "a-b", long.as_str()] {
            assert!(bad.parse::<BridgeName>().is_err(), "{bad}");
        }
    }
}
