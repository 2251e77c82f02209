//! End-to-end tests: real bytes through a mounted stack.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "servers and clients stop with the test")]

mod audit_completeness;
#[cfg(target_os = "linux")]
mod audit_month;
mod audit_reservations;
mod blocking_and_replicas;
mod browser_pages;
mod browsers;
mod cancellation;
mod clocks;
mod completions;
mod connector;
mod credential_placement;
mod failed_sign_ins;
#[cfg(unix)]
mod file_descriptors;
mod grpc_mounts;
mod grpc_streams;
mod handlers;
mod hostile_case;
mod hostile_cases_doc;
mod hostile_grpc_requests;
mod hostile_requests;
mod hostile_tokens;
mod http_2_wire;
mod identity_claims;
mod identity_providers;
mod immediate_revocation;
mod key_set_outages;
mod key_sets;
#[cfg(unix)]
mod killed;
mod leak_guard;
mod ledger;
mod manual_stack;
mod many_streams;
mod message_framing;
mod mount_paths;
mod mounts;
mod name_headers;
mod notification_responses;
mod null_members;
mod older_revisions;
mod operating_doc;
mod panics;
mod providers;
mod records;
mod refusal_marks;
mod refusals_in_the_log;
mod replaced_policies;
mod request_hygiene;
mod resolvers;
mod respelled_names;
mod response_headers;
mod response_hygiene;
mod secrets_in_debug;
mod shared_connections;
mod shutdown;
mod signing_key_rotation;
mod silent_upstreams;
mod slow_clients;
mod stored_secrets;
mod streams;
mod timing;
mod token_exchange;
mod token_responses;
mod truncated_members;
mod uploads;
mod upstream_401;
mod upstream_causes;
mod user_secrets;
mod verdict_cache;
mod withheld_responses;
