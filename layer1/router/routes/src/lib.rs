//! Route matching and the choice of a backend, pure.
