//! Anything as gRPC frames, and each message as MCP in frames, in Google's types and in gzip: never a panic, and one reading however it is cut.
//!
//! cargo +nightly fuzz run grpc_frame

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| tower_token_broker::grpc::read_anything(input.1, input.0.into()));
