//! Wire types of the controller and its typed client.
