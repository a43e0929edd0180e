//! Apps, releases, formations and their events on PostgreSQL.
