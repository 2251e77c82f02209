//! Redirect URIs: which may be registered, and which request matches one.

use http::Uri;

use crate::authorize::RedirectTarget;

/// A redirect URI that may be registered.
///
/// - `https` with a host, for web sites;
/// - `http` with `127.0.0.1`, `[::1]` or `localhost`, for programs on the user's computer; a
///   request may name any port (RFC 8252 §7.3);
/// - a scheme of the program's own, such as `com.example.app:/callback` (RFC 8252 §7.1); not one
///   that browsers give a meaning.
///
/// In each case without fragment, user information, wildcard, or a query parameter of an
/// authorization response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    text: Box<str>,
    target: RedirectTarget,
    /// For loopback: the host, and the part after the port.
    loopback: Option<Loopback>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Loopback {
    host: &'static str,
    rest: Box<str>,
}

/// A URI that a request named and that the client registered: the only one that the browser is
/// redirected to. Only [`RedirectUris::verify`] creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRedirect {
    uri: Box<str>,
    target: RedirectTarget,
}

/// The redirect URIs of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUris(Box<[RedirectUri]>);

/// The reasons why a text is not a redirect URI that may be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectUriError {
    /// Empty, longer than 2 KiB, or with a character that is not printable ASCII.
    #[error("a redirect URI has 1 to 2048 printable ASCII characters")]
    Characters,
    /// Not an absolute URI.
    #[error("a redirect URI is absolute, such as https://client.example/callback")]
    NotAbsolute,
    /// A scheme that browsers or systems give a meaning, or `http` to another host than loopback.
    #[error("a redirect URI is https, http on loopback, or has a scheme of the application's own")]
    Scheme,
    /// A fragment, user information, or a wildcard.
    #[error("a redirect URI has no fragment, no user information and no wildcard")]
    Part,
    /// A path with a `.` or `..` segment, or a backslash.
    #[error("the path of a redirect URI has no dot segments and no backslash")]
    Path,
    /// A query parameter that an authorization response has.
    #[error("the query of a redirect URI has no parameter of an authorization response")]
    Query,
    /// None, or too many.
    #[error("a client has 1 to 32 redirect URIs")]
    Count,
}

pub(super) const LOOPBACK_HOSTS: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Schemes that browsers and systems handle themselves, so that no program of a user can own them.
// D090, F146
const RESERVED_SCHEMES: [&str; 48] = [
    "about",
    "android-app",
    "blob",
    "chrome",
    "chrome-extension",
    "content",
    "data",
    "edge",
    "feed",
    "file",
    "filesystem",
    "firefox",
    "ftp",
    "geo",
    "googlechrome",
    "googlechromes",
    "gopher",
    "http",
    "https",
    "intent",
    "itms-services",
    "jar",
    "javascript",
    "ldap",
    "livescript",
    "magnet",
    "mailto",
    "microsoft-edge",
    "mocha",
    "moz-extension",
    "opera",
    "res",
    "resource",
    "search",
    "search-ms",
    "sftp",
    "shell",
    "smb",
    "sms",
    "ssh",
    "tel",
    "urn",
    "vbscript",
    "view-source",
    "ws",
    "wss",
    "x-safari-http",
    "x-safari-https",
];

/// Parameters that a client would read from our response.
const RESPONSE_PARAMETERS: [&str; 10] = [
    "access_token",
    "code",
    "error",
    "error_description",
    "error_uri",
    "expires_in",
    "iss",
    "response",
    "state",
    "token_type",
];

impl RedirectUri {
    /// Longest URI, in bytes.
    pub const MAX_BYTES: usize = 2048;

    /// Parses a URI that may be registered.
    ///
    /// # Errors
    /// The problem of the URI.
    pub fn parse(text: &str) -> Result<Self, RedirectUriError> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX_BYTES || !is_printable {
            return Err(RedirectUriError::Characters);
        }
        let (scheme, after) = text.split_once(':').ok_or(RedirectUriError::NotAbsolute)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !is_scheme || !after.starts_with('/') || after.len() < 2 {
            return Err(RedirectUriError::NotAbsolute);
        }
        if text.contains(['#', '*', '"', '<', '>', '`', '{', '}', '^', '|']) {
            return Err(RedirectUriError::Part);
        }
        check_path(after)?;
        check_query(after)?;
        let (target, loopback) = match scheme {
            "https" => (RedirectTarget::Web, None),
            "http" => (RedirectTarget::Loopback, Some(loopback(text)?)),
            _ => (RedirectTarget::CustomScheme, None),
        };
        match target {
            RedirectTarget::Web => check_host(text)?,
            RedirectTarget::Loopback => {}
            RedirectTarget::CustomScheme => check_custom_scheme(scheme, after)?,
        }
        Ok(Self { text: text.into(), target, loopback })
    }

    /// Returns the URI, octet by octet as it was registered.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the kind of its target.
    pub const fn target(&self) -> RedirectTarget {
        self.target
    }

    // D085: octet by octet. D087: but for the port of a loopback host.
    fn matches(&self, requested: &str) -> bool {
        if *self.text == *requested {
            return true;
        }
        let Some(registered) = &self.loopback else { return false };
        loopback(requested).is_ok_and(|requested| requested == *registered)
    }
}

fn check_host(text: &str) -> Result<(), RedirectUriError> {
    let parsed: Uri = text.parse().map_err(|_| RedirectUriError::NotAbsolute)?;
    let authority = parsed.authority().ok_or(RedirectUriError::NotAbsolute)?;
    if authority.as_str().contains('@') {
        return Err(RedirectUriError::Part);
    }
    let host = authority.host();
    let written = text.strip_prefix("https://").unwrap_or_default();
    let has_dots = host.starts_with('.') || host.contains("..");
    // An empty port, or one that the parser did not read, is another spelling.
    let has_port = authority.as_str().len() > host.len();
    if host.is_empty()
        || has_dots
        || host.contains('%')
        || !written.starts_with(authority.as_str())
        || (has_port && authority.port_u16().is_none_or(|port| port == 0))
    {
        return Err(RedirectUriError::NotAbsolute);
    }
    Ok(())
}

fn check_custom_scheme(scheme: &str, after: &str) -> Result<(), RedirectUriError> {
    let scheme = scheme.to_ascii_lowercase();
    if RESERVED_SCHEMES.contains(&scheme.as_str())
        || ["ms-", "web+"].iter().any(|prefix| scheme.starts_with(prefix))
    {
        return Err(RedirectUriError::Scheme);
    }
    let authority = after.strip_prefix("//").unwrap_or_default();
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') { Err(RedirectUriError::Part) } else { Ok(()) }
}

fn check_path(after: &str) -> Result<(), RedirectUriError> {
    let (path, _) = after.split_once('?').unwrap_or((after, ""));
    // Browsers read an escaped dot, and a backslash as a slash (WHATWG URL).
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    let has_escapes = path.contains("%2f") || path.contains("%5c") || path.contains("%00");
    if has_dots || has_escapes || after.contains('\\') {
        return Err(RedirectUriError::Path);
    }
    Ok(())
}

fn check_query(after: &str) -> Result<(), RedirectUriError> {
    let Some((_, query)) = after.split_once('?') else { return Ok(()) };
    let is_ours = |pair: &str| {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        let name = crate::params::decode_value(name);
        name.is_none_or(|name| RESPONSE_PARAMETERS.iter().any(|ours| **ours == *name))
    };
    if query.split(['&', ';']).any(is_ours) { Err(RedirectUriError::Query) } else { Ok(()) }
}

/// Reads `http://HOST[:PORT]REST` with a loopback host.
fn loopback(text: &str) -> Result<Loopback, RedirectUriError> {
    let after = text.strip_prefix("http://").ok_or(RedirectUriError::Scheme)?;
    let authority_ends = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) =
        after.split_at_checked(authority_ends).ok_or(RedirectUriError::NotAbsolute)?;
    let host = LOOPBACK_HOSTS.into_iter().find_map(|host| {
        let port = authority.strip_prefix(host)?;
        (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(host)
    });
    let host = host.ok_or(RedirectUriError::Scheme)?;
    Ok(Loopback { host, rest: rest.into() })
}

pub(super) fn is_port(text: &str) -> bool {
    let is_canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    is_canonical && text.parse::<u16>().is_ok()
}

impl RedirectUris {
    /// Largest number of redirect URIs of a client.
    pub const MAX_COUNT: usize = 32;

    /// Parses the redirect URIs of one client.
    ///
    /// # Errors
    /// There is none, or more than [`RedirectUris::MAX_COUNT`]; or the problem of the first one
    /// that may not be registered.
    pub fn parse<'a>(uris: impl IntoIterator<Item = &'a str>) -> Result<Self, RedirectUriError> {
        let uris = uris.into_iter().take(Self::MAX_COUNT + 1).map(RedirectUri::parse);
        let uris = uris.collect::<Result<Vec<_>, _>>()?;
        if uris.is_empty() || uris.len() > Self::MAX_COUNT {
            return Err(RedirectUriError::Count);
        }
        Ok(Self(uris.into()))
    }

    /// Leaves out the web sites at other hosts than this one; `None` if there is no other URI.
    pub(super) fn of_site(self, host: &str) -> Option<Self> {
        let is_of_site = |uri: &RedirectUri| {
            let after = uri.text.strip_prefix("https://").unwrap_or_default();
            let authority = after.split(['/', '?']).next().unwrap_or_default();
            uri.target != RedirectTarget::Web || authority == host
        };
        let kept: Box<[_]> = self.0.into_iter().filter(is_of_site).collect();
        (!kept.is_empty()).then_some(Self(kept))
    }

    /// Returns the URI that a request named, if it is registered.
    pub fn verify(&self, requested: &str) -> Option<VerifiedRedirect> {
        let registered = self.0.iter().find(|registered| registered.matches(requested))?;
        Some(VerifiedRedirect { uri: requested.into(), target: registered.target })
    }

    /// Returns the URIs.
    pub fn iter(&self) -> impl Iterator<Item = &RedirectUri> {
        self.0.iter()
    }
}

impl VerifiedRedirect {
    /// Returns the URI, octet by octet as the request named it.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// Returns the kind of its target.
    pub const fn target(&self) -> RedirectTarget {
        self.target
    }

    /// Returns host and port; of a custom scheme, the scheme with its colon.
    pub fn host(&self) -> &str {
        let (scheme, after) = self.uri.split_once(':').unwrap_or_default();
        match self.target {
            RedirectTarget::CustomScheme => self.uri.get(..=scheme.len()).unwrap_or_default(),
            RedirectTarget::Web | RedirectTarget::Loopback => {
                let after = after.trim_start_matches('/');
                after.split(['/', '?']).next().unwrap_or_default()
            }
        }
    }
}
