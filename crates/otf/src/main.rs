//! The offline command: analyze, resolve, compile, inspect, explain.

fn main() {}
