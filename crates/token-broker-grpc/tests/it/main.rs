//! The generated code matches the proto file, and generated clients work through the layers.

#![cfg(test)]

mod handler;

use std::{env, fs, path::Path};

/// `UPDATE_GENERATED=1 cargo test -p token-broker-grpc` regenerates it.
#[test]
fn the_generated_code_is_what_the_proto_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = env::temp_dir().join(format!("token-broker-grpc-{}", std::process::id()));
    fs::create_dir_all(&made).unwrap();
    let files = protox::compile(["token_broker/mcp/v1/mcp.proto"], [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        // The user of the crate chooses the transport. Frames are not copied.
        .build_transport(false)
        .bytes(".token_broker.mcp.v1.Frame")
        .out_dir(&made)
        .compile_fds(files)
        .unwrap();
    let generated = fs::read_to_string(made.join("token_broker.mcp.v1.rs")).unwrap();
    fs::remove_dir_all(&made).unwrap();
    let checked_in = root.join("src/generated/token_broker.mcp.v1.rs");
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&checked_in, &generated).unwrap();
    }
    assert!(
        fs::read_to_string(checked_in).unwrap() == generated,
        "run with UPDATE_GENERATED=1, and look at the difference"
    );
}
