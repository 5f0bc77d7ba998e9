//! Generates the gRPC types with a protobuf compiler that is itself Rust, so that no tool has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["media", "stats", "cluster", "conference", "access", "mixer", "streaming", "peers"]
        .map(|f| format!("proto/kaigi/v1/{f}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    // Shared between all that a message goes to.
    let shared = ".kaigi.v1.DataMessage.payload";
    tonic_prost_build::configure().bytes(shared).compile_fds(descriptors)?;
    Ok(())
}
