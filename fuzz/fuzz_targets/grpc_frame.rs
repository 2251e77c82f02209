//! Any bytes as gRPC frames, and each message as MCP in frames, in Google's types and in gzip: the
//! law of `grpc_frames`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use token_broker_fuzz::grpc_frames;

fuzz_target!(|input: (u8, &[u8])| grpc_frames::check(input.1, input.0.into()));
