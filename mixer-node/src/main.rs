//! The `kaigi-mixer-node` process.

fn main() {}
