//! A separate process for the test that captures every log line: other tests would share its
//! subscribers.

#![cfg(test)]

mod upstream_token_never_leaves;
