//! Anything as gRPC frames, and each message as MCP in frames, in Google's types and in gzip: one
//! reading however it is cut, what is read is written as it was, and what was filtered is not
//! changed by the same filter.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| tower_token_broker::grpc::read_anything(input.1, input.0.into()));
