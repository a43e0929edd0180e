//! What the planner promises, told as behaviours, as properties over random worlds, and as a size it
//! must cope with.

mod behaviour;
mod properties;
mod scale;
mod world;
