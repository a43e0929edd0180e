//! Wire types of flynn-host and its typed client.
