//! The arguments of the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use tower_token_broker::audit::{WriterName, verify::Head};

/// MCP clients hold broker tokens, the broker keeps the real ones.
#[derive(Parser)]
#[command(name = "token-broker", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run two upstreams, the broker and a client on loopback, and check what they logged
    Demo {
        /// Print one JSON object (docs/demo.md) instead of text
        #[arg(long, conflicts_with = "serve")]
        json: bool,
        /// Leave all of it running afterwards, until Ctrl-C, and print what to paste into clients
        #[arg(long)]
        serve: bool,
        /// The address for clients, on loopback
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", requires = "serve")]
        listen: SocketAddr,
    },
    /// Write a configuration and its keys into an empty folder
    Init {
        /// The folder
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// For tokens from `tokens issue`, without sign-in
        #[arg(long)]
        trial: bool,
    },
    /// Check the configuration: report what is wrong, or each weakened default
    Check {
        #[command(flatten)]
        file: File,
    },
    /// Run the gateway until Ctrl-C or SIGTERM
    Serve {
        #[command(flatten)]
        file: File,
        /// Accept a store that is older than it was, such as a restored backup: end all broker
        /// tokens that were issued until now, and keep the grants
        #[arg(long)]
        recovered: bool,
    },
    /// Print the JSON Schema of the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Create, list and disable the accounts of users, and block users
    Users {
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// List clients, and end their access
    Clients {
        #[command(subcommand)]
        command: ClientsCommand,
    },
    /// List, add and revoke the grants of users at upstreams
    Grants {
        #[command(subcommand)]
        command: GrantsCommand,
    },
    /// Issue tokens for trials, and revoke tokens
    Tokens {
        #[command(subcommand)]
        command: TokensCommand,
    },
    /// List the keys that encrypt the store, and rotate them
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Write a copy of a SQLite store to a new file, while gateways use it
    Backup {
        /// The new file
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// List the protected servers
    Servers {
        #[command(subcommand)]
        command: ServersCommand,
    },
    /// Verify an audit file or folder, or remove old segments
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

#[derive(Args)]
pub(crate) struct File {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "token-broker.toml")]
    pub(crate) config: PathBuf,
}

/// The arguments of each command on the store.
#[derive(Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) file: File,
    /// Your name, for the record; that of the login by default
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON Schema of the configuration
    Schema,
}

#[derive(Subcommand)]
pub(crate) enum UsersCommand {
    /// Create an account for `[login]`; without a file, print a password for the first sign-in
    Add {
        /// The name with which the user signs in
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        password: NewPassword,
        #[command(flatten)]
        common: Common,
    },
    /// Set the password of an account, and sign its browsers out
    Passwd {
        /// The name with which the user signs in
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        password: NewPassword,
        #[command(flatten)]
        common: Common,
    },
    /// Disable an account: refuse all its requests, and end the access of its applications
    Disable {
        /// The name with which the user signs in
        #[arg(allow_hyphen_values = true)]
        name: String,
        /// Disconnect the accounts that the user connected at servers, too
        #[arg(long)]
        disconnect: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Enable an account, also a blocked one; its applications must ask again
    Enable {
        /// The name with which the user signs in
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List accounts and blocked users
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print the one-time link for the first account, valid for an hour; it replaces the last one
    Link {
        #[command(flatten)]
        common: Common,
    },
    /// Refuse all requests of a user, and cut open streams, until `unblock`
    Block {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`), or the account's name
        #[arg(allow_hyphen_values = true)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a blocked user in again
    Unblock {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`), or the account's name
        #[arg(allow_hyphen_values = true)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
}

/// The new password of an account.
#[derive(Args)]
pub(crate) struct NewPassword {
    /// The file with the password, or `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum ClientsCommand {
    /// List clients: configured, registered, or with a metadata document
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Remove the registration of a client that is used no longer, and end its access
    Remove {
        /// The client ID
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// End the access of a client at once; it must ask its users again
    Revoke {
        /// The client ID
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Only its access for this user, by account name or subject
        #[arg(long, allow_hyphen_values = true)]
        user: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
pub(crate) enum GrantsCommand {
    /// List grants, without their tokens
    List {
        /// Only those of this user, by subject or by the name of the account
        #[arg(long, allow_hyphen_values = true)]
        user: Option<String>,
        /// Only those for this server
        #[arg(long)]
        server: Option<String>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Store a grant that was obtained elsewhere
    Add {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`), or the account's name
        #[arg(long, allow_hyphen_values = true)]
        user: String,
        /// The server
        #[arg(long)]
        server: String,
        /// The account, for users with several; `default` if none is named
        #[arg(long)]
        account: Option<String>,
        /// The scopes that the user agreed to; those of the configuration by default
        #[arg(long)]
        scopes: Option<String>,
        /// The file with the refresh token
        #[arg(long, value_name = "FILE")]
        refresh_token_file: PathBuf,
        /// Replace a grant that the user has already
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
    /// End grants: no request uses them any longer, and their tokens are revoked upstream
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    Revoke {
        /// The ID of a grant
        #[arg(group = "which", allow_hyphen_values = true, conflicts_with_all = ["user", "server"])]
        id: Option<String>,
        /// All grants of this user, by subject or by the name of the account
        #[arg(long, group = "which", allow_hyphen_values = true)]
        user: Option<String>,
        /// All grants for this server: before it is removed from the configuration
        #[arg(long, group = "which")]
        server: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokensCommand {
    /// Issue a broker token for trials, and print it on stdout
    Issue {
        /// The subject of the user
        #[arg(long)]
        user: String,
        /// The server
        #[arg(long)]
        server: String,
        /// The scopes; all that the rules of the server name by default
        #[arg(long)]
        scopes: Option<String>,
        /// The lifetime, at most a day
        #[arg(long, value_name = "MINUTES", default_value_t = 60,
              value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        #[command(flatten)]
        common: Common,
    },
    /// End broker tokens at once: one, those of a client or a user, or all
    #[command(group = clap::ArgGroup::new("target").required(true))]
    Revoke {
        /// The ID of a token (`jti`)
        #[arg(long, group = "target", value_name = "JTI", allow_hyphen_values = true)]
        id: Option<String>,
        /// All tokens of a client that were issued until now
        #[arg(long, group = "target", value_name = "CLIENT_ID", allow_hyphen_values = true)]
        client: Option<String>,
        /// All tokens of a user that were issued until now, by subject or account name
        #[arg(long, group = "target", value_name = "SUBJECT", allow_hyphen_values = true)]
        user: Option<String>,
        /// All tokens that were issued until now
        #[arg(long, group = "target")]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// List the keys that the store needs, by their IDs, with the number of their uses
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Encrypt all keys of the store with the first key of the key file, while gateways use it. All
    /// gateways must have been restarted with that key in their key file before (docs/store.md).
    /// Run it again if it was stopped
    Rotate {
        /// Print progress on stderr even if stderr is not a terminal
        #[arg(long)]
        progress: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
pub(crate) enum ServersCommand {
    /// List the protected servers and their URLs
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: File,
    },
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify a file or a folder offline: names the first wrong record of each file and the reason,
    /// and distinguishes the traces of a crash from a manipulation (docs/audit.md)
    Verify {
        /// The file of JSON lines, or the folder of segments
        path: PathBuf,
        /// A head noted elsewhere, which the file or folder must contain; can be repeated
        #[arg(long, value_name = "SEQ:HASH")]
        expect_head: Vec<Head>,
        /// Print one JSON object (docs/audit.md) instead of text
        #[arg(long)]
        json: bool,
        /// Print progress on stderr even if stderr is not a terminal
        #[arg(long)]
        progress: bool,
    },
    /// Remove the segments of one writer that are old enough, after verifying all, and record it
    /// in the folder, as writer `commands` (docs/audit.md)
    Remove {
        /// The folder of segments
        folder: PathBuf,
        /// The writer, as in the names of its segments
        #[arg(long)]
        writer: WriterName,
        /// Remove segments whose last record is older than this many days
        #[arg(long, value_name = "DAYS")]
        older_than_days: u32,
        /// The one who signs off, for the record
        #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
        operator: Option<String>,
        /// Print the segments that would be removed; change and record nothing
        #[arg(long)]
        dry_run: bool,
    },
}
