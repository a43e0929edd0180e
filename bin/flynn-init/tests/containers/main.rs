//! Real containers, as root, on this machine's kernel: what a job may see and do, how it ends, what
//! stays behind (nothing).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod host;
mod identity;
mod latency;
mod lifecycle;
mod limits;
mod services;
mod streams;
mod support;
