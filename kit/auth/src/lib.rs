//! Keys and tokens: constant-time comparison, HMAC tokens with expiry, the `Authorization` header.
//! Who may do what with a key is each service's decision.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod header;
mod holder;
mod keys;
mod token;

pub use header::Credentials;
pub use holder::Holder;
pub use keys::Keys;
pub use token::{BuildScope, TokenError};
