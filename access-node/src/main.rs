//! The `kaigi-access-node` process.

fn main() {}
