//! Service discovery: HTTP and SSE, DNS, a durable Raft node.
