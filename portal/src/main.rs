//! The `kaigi-portal` process.

fn main() {}
