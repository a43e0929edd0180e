//! Discovery, overlay, router and database drivers.

fn main() {}
