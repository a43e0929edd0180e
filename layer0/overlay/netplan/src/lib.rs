//! Subnet leases and the routes that follow from them, pure.
