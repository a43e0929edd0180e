//! Keys and tokens: constant-time comparison, HMAC tokens with expiry.
