//! Which job goes to which host, and why: a pure planner.
