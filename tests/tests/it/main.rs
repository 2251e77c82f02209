//! End to end: real bytes through a mounted stack.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "servers and clients of a test end with the test")]

mod an_upstream_401;
mod answer_hygiene;
mod blocking_and_replicas;
mod cancellation;
mod clocks;
#[cfg(unix)]
mod descriptors;
mod grpc_mounts;
mod grpc_rows;
mod grpc_streams;
mod handlers;
mod hostile_cases_doc;
mod hostile_rows;
mod hostile_tokens;
mod http_2_wire;
mod key_sets;
#[cfg(unix)]
mod killed;
mod known_tokens;
mod many_streams;
mod message_framing;
mod mounting;
mod mounts;
mod no_blind_spots;
mod operating_doc;
mod panics;
mod placing_the_credential;
mod providers;
mod records;
mod refusal_marks;
mod replaced_policies;
mod request_hygiene;
mod revocation_is_immediate;
mod rows;
mod secrets_in_debug;
mod shutting_down;
mod silent_upstreams;
mod slow_clients;
mod stacked_by_hand;
mod streams;
mod the_books;
mod timing;
mod token_exchange;
