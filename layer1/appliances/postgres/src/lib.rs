//! PostgreSQL as an appliance: the driver in singleton mode and its HTTP API.
