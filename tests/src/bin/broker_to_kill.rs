//! A broker process for a test that kills it.
//!
//! Continues an existing audit file, prints its address and then broker tokens, one per line, and
//! serves requests until it is killed.

use std::{future, io::Write as _};

use token_broker_tests::{harness::Broker, upstream::ScriptedServer};
use tower_token_broker::audit::JsonLines;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = move || arguments.next().ok_or("broker_to_kill FILE UPSTREAM TOKENS");
    let (file, upstream, tokens) = (argument()?, argument()?.parse()?, argument()?.parse()?);
    let sink = JsonLines::append(file)?;
    let broker = Broker::in_front_of(&ScriptedServer::elsewhere(upstream))
        .audit(sink, Vec::new)
        .start()
        .await;
    // The parent process reads this line; no other line is printed.
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", broker.address())?;
    for _ in 0..tokens {
        writeln!(output, "{}", broker.token("items:read"))?;
    }
    output.flush()?;
    future::pending().await
}
