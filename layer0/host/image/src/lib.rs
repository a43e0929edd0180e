//! Layer store of one host: import, fetch, verify, mount, collect.
