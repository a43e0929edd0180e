//! Life cycle of one job, pure: states, restart rule, resources.
