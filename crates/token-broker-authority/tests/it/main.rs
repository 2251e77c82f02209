//! The authorization server as a client and a browser see it: over real sockets.
#![cfg(test)]

mod account_access;
mod audit;
mod authorize;
mod client_document_quotas;
mod client_documents;
mod consent;
mod deliberate_errors;
mod endings;
mod faulty_store;
mod key_rotation;
mod maintenance;
mod own_trouble;
mod private_key_jwt;
mod races;
mod redirects;
mod refresh;
mod registration;
mod revocation;
mod support;
mod token;
mod whole_flow;
