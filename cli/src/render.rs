//! How values look to people: tables, times, sizes. Pure; nothing here writes anywhere.

mod size;
mod span;
mod table;

pub(crate) use size::{parse_binary_size, parse_decimal_size, show_size};
pub(crate) use span::{ago, go_duration, go_time};
pub(crate) use table::Table;
