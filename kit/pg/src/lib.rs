//! PostgreSQL: pools, migrations, notifications.
