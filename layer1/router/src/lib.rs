//! HTTP(S), WebSocket and TCP load balancer.
