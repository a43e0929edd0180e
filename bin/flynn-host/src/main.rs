//! The host daemon and the operator's commands.

fn main() {}
