//! A process of its own for the test that listens to every log line: tests beside it would share
//! its subscribers.

#![cfg(test)]

mod upstream_token_never_leaves;
