//! The DNS surface: names below `discoverd.`, the cluster's own domain, and a way on for all others.

mod answer;
mod forward;
mod name;
mod serve;
mod zone;

pub(crate) use serve::start;
pub(crate) use zone::Zone;
