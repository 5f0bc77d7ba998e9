//! The `kaigi-cluster-manager` process.

fn main() {}
