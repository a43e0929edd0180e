//! Wire types of routes.
