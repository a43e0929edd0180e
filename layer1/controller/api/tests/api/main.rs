//! The wire forms of the specification, read and written again; and jobs made from releases.

mod jobs;
mod wire;
