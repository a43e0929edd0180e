//! HTTP conventions every Flynn service shares: errors, JSON, SSE, attach upgrades, one client.
