//! The flynn command.

fn main() {}
