//! Bridge, addresses and firewall of one host.
