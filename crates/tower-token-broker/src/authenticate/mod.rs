//! Lets a request in only with a broker token made for this resource. (Being written.)

mod verify;

pub use verify::{PresentedToken, TokenRejected, VerifyToken};
