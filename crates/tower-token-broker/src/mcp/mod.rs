//! The one strict reading of a message: what is judged is what is sent.

pub mod strict_json;
