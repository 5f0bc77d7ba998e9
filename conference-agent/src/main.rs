//! The `kaigi-conference-agent` process.

fn main() {}
