//! Wire types of discoverd and its typed client.
