//! A whole broker in a process of its own, for a test that kills it: goes on with an audit file,
//! says where it listens and gives out tokens, one a line, and serves until it is ended from
//! outside.

use std::{future, io::Write as _};

use token_broker_tests::{harness::Broker, upstream::Scripted};
use tower_token_broker::audit::JsonLines;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = move || arguments.next().ok_or("broker_to_kill FILE UPSTREAM TOKENS");
    let (file, upstream, tokens) = (argument()?, argument()?.parse()?, argument()?.parse()?);
    let sink = JsonLines::append(file)?;
    let broker = Broker::before(&Scripted::elsewhere(upstream)).audit(sink, Vec::new).start().await;
    // The process that kills reads this; it hears nothing else of us.
    let mut said = std::io::stdout().lock();
    writeln!(said, "{}", broker.address())?;
    for _ in 0..tokens {
        writeln!(said, "{}", broker.token("items:read"))?;
    }
    said.flush()?;
    future::pending().await
}
