//! Real daemons, containers and networks in namespaces of their own.
