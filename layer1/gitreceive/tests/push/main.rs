//! Pushes with the real git against a real server, controller and blob store played by fakes.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod blobs;
mod contents;
mod controller;
mod endings;
mod http;
mod pushes;
mod world;
