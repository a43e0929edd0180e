//! Units as types: [`Bytes`] and [`Millicpu`], with the ways people write and read them.
//!
//! Suffixes are binary ("512MB" is 512 · 1024²), as in `flynn limit set web memory=512MB`
//! (spec/cli.md, limits).
#![warn(missing_docs)]
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Bytes(pub u64);

/// A share of a processor: 1000 is one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Millicpu(pub u64);

const STEP: u64 = 1024;
const SUFFIXES: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];

impl Bytes {
    /// `n` · 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n * STEP)
    }
    /// `n` · 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n * STEP * STEP)
    }
    /// `n` · 1024³ bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n * STEP * STEP * STEP)
    }
}

impl fmt::Display for Bytes {
    /// The largest suffix that leaves a whole number: `512MB`, `1536KB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0;
        let mut suffix = 0;
        while value > 0 && value.is_multiple_of(STEP) && suffix + 1 < SUFFIXES.len() {
            value /= STEP;
            suffix += 1;
        }
        write!(f, "{value}{}", SUFFIXES[suffix])
    }
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// No digits where a number must stand.
    #[error("{0:?} is no size: write a number with an optional suffix, such as 512MB")]
    NotANumber(String),
    /// A suffix other than B, K(B), M(B), G(B), T(B).
    #[error("{0:?} has an unknown suffix: use B, KB, MB, GB or TB")]
    UnknownSuffix(String),
    /// More than 2⁶⁴ bytes.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(digits);
        if number.is_empty() {
            return Err(ParseBytesError::NotANumber(text.to_owned()));
        }
        let number: u64 = number.parse().map_err(|_| ParseBytesError::TooLarge(text.to_owned()))?;
        let suffix = suffix.trim().to_ascii_uppercase();
        let suffix = suffix.trim_end_matches('B').trim_end_matches('I');
        let power = match suffix {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return Err(ParseBytesError::UnknownSuffix(text.to_owned())),
        };
        let bytes = number.checked_mul(STEP.pow(power));
        bytes.map(Self).ok_or_else(|| ParseBytesError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Millicpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1KB", 1024),
            ("1k", 1024),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            (" 2 GB ", 2 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }
        assert_eq!(Bytes::mib(512).to_string(), "512MB");
        assert_eq!(Bytes(1000).to_string(), "1000B");
    }

    #[test]
    fn bad_sizes_say_why() {
        for (text, want) in
            [("", "no size"), ("MB", "no size"), ("3XB", "suffix"), ("99999999TB", "large")]
        {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
