//! The demo that stays: after the story, all of it runs on, for clients of people who try it.

use std::{fmt, net::SocketAddr};

use crate::{DemoError, Report, scenario, setup::Setup, sign_in::Login};

/// The user for people who try it, who has connected no account.
const USER: &str = "bob";

/// A call of a tool.
const CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
    r#""params":{"name":"get_contact","arguments":{}}}"#
);

/// A running demo. `Display` renders the report of its story, and what to paste into clients.
pub struct Running {
    report: Report,
    setup: Setup,
    login: Login,
    /// A broker token for the CRM.
    token: String,
}

impl Running {
    /// Starts the demo at this address, and runs its story.
    pub(crate) async fn start(listen: SocketAddr) -> Result<Self, DemoError> {
        if !listen.ip().is_loopback() {
            return Err(DemoError::new(format!(
                "{listen} is not on loopback, and the demo is for this machine alone; \
                 docs/getting-started.md has a broker for others"
            )));
        }
        let setup = Setup::start(listen, None).await?;
        let outcome = scenario::run(&setup, None).await?;
        let report = crate::report_of(&setup, outcome, None).await?;
        // From here on, the bytes are those of people.
        setup.wire.stop_recording();
        let (login, token) = setup.newcomer(USER).await?;
        Ok(Self { report, setup, login, token })
    }

    /// Returns the report of the story.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Returns the public URL of the broker.
    pub fn url(&self) -> String {
        self.setup.origin()
    }

    /// Returns the name and the password with which to sign in.
    pub fn login(&self) -> (&str, &str) {
        (self.login.user, &self.login.password)
    }

    /// Ends the broker, and removes its files.
    ///
    /// # Errors
    /// The last records could not be written.
    ///
    /// # Cancellation
    /// The broker has ended, or ends with the runtime.
    pub async fn stop(self) -> Result<(), DemoError> {
        self.setup.shutdown().await
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.story(f)?;
        let (origin, token) = (self.url(), &self.token);
        let (user, password) = self.login();
        let url = format!("{origin}/crm/mcp");
        write!(
            f,
            r#"
IT IS RUNNING, until Ctrl-C. Nothing of it is kept

  user           {user}
  password       {password}
  servers        {url} and {origin}/tickets/mcp
  your accounts  {origin}/connections

Add the CRM to a client. It opens your browser: sign in, allow, and connect the CRM account.

  Claude Code    claude mcp add --transport http crm {url}
                 then /mcp in Claude Code
  Cursor         in ~/.cursor/mcp.json:
                 {{"mcpServers": {{"crm": {{"url": "{url}"}}}}}}
  VS Code        in .vscode/mcp.json:
                 {{"servers": {{"crm": {{"type": "http", "url": "{url}"}}}}}}
  MCP Inspector  MCP_AUTO_OPEN_ENABLED=true npx @modelcontextprotocol/inspector --cli \
                 --server-url {url} --transport http --method tools/list
  curl           curl -i {url}
                 is refused, and names where to sign in

Or call a tool by curl, with a broker token of {user} that is valid for 10 minutes. At first you
receive a link to connect the account: open it, sign in as {user}, connect, and repeat the call.

TOKEN={token}
curl {url} -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
  -d '{CALL}'

Next: disconnect the account at {origin}/connections, and call again.
With your own servers: docs/getting-started.md."#
        )
    }
}
