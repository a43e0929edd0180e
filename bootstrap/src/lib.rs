//! From nothing to a running platform, as steps.
