//! Gives the host its subnet and connects the subnets of all hosts.
