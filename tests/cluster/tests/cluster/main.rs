//! The cluster suite: one binary, one module per room. Needs a sandbox; see README.md.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod bad_input;
mod confinement;
mod deploys;
mod doctor;
mod examples;
mod fences;
mod full_disk;
mod kills;
mod one_job;
mod overlay;
mod platform;
mod pushes;
mod several_hosts;
mod talking;
mod tutorial;
