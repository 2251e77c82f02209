//! The spellings of an authority: user information, host and port.
//!
//! Sources: RFC 3986 §3.2 and §7.4; WHATWG URL "host parsing"; RFC 3492 (Punycode).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::budget::Unbounded;
use crate::folding::fold;

/// Returns the forms of a folded authority: as written, and with its host in each of its forms,
/// without user information and without a default port. Without a scheme, it is the default port of
/// any. In a text, what is before an `@` may be the host, too.
pub(super) fn forms(text: &str, scheme: &str, is_text: bool) -> Result<Vec<String>, Unbounded> {
    let text = text.trim_matches([' ', '.']);
    let mut parts = text.split('@');
    let first = parts.next().unwrap_or_default();
    let mut forms = vec![text.to_owned()];
    let mut add = |form: String| {
        if !forms.contains(&form) {
            forms.push(form);
        }
    };
    match (parts.next(), parts.next()) {
        (None, _) => hosts_and_ports(first, scheme, is_text).into_iter().for_each(&mut add),
        (Some(host), None) => {
            hosts_and_ports(host, scheme, is_text).into_iter().for_each(&mut add);
            if is_text {
                let host = first.split(':').next().unwrap_or_default();
                hosts_and_ports(host, scheme, is_text).into_iter().for_each(&mut add);
            }
        }
        // Readers disagree on which one ends the user information.
        (Some(_), Some(_)) => return Err(Unbounded::Ambiguous),
    }
    Ok(forms)
}

/// Whether a host is this machine's name for itself.
pub(super) fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "[::1]" | "[::]" | "0.0.0.0")
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an authority is that of a server in a network, rather than a word.
pub(super) fn is_of_network(authority: &str) -> bool {
    authority.contains(['.', ':']) || authority.contains("localhost")
}

fn hosts_and_ports(text: &str, scheme: &str, is_text: bool) -> Vec<String> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    // The colons inside brackets belong to an address.
    let split = text.rsplit_once(':').filter(|(_, port)| is_port(port));
    let (host, port) = split.unwrap_or((text, ""));
    let port = match port.trim_start_matches('0') {
        port if is_default_port(scheme, port) => String::new(),
        port => format!(":{port}"),
    };
    let with_port = |host: String| format!("{host}{port}");
    host_forms(host.trim_matches([' ', '.']), is_text).into_iter().map(with_port).collect()
}

fn is_default_port(scheme: &str, port: &str) -> bool {
    const SCHEMES: [&str; 3] = ["http", "https", "ftp"];
    let is_of_any =
        || scheme.is_empty() && SCHEMES.iter().any(|scheme| default_port(scheme) == Some(port));
    port.is_empty() || default_port(scheme) == Some(port) || is_of_any()
}

fn default_port(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "http" | "ws" => "80",
        "https" | "wss" => "443",
        "ftp" => "21",
        "ssh" | "sftp" | "git ssh" => "22",
        "git" => "9418",
        "ldap" => "389",
        "ldaps" => "636",
        "smb" => "445",
        "imap" => "143",
        "imaps" => "993",
        "mysql" => "3306",
        "postgres" | "postgresql" => "5432",
        "redis" => "6379",
        "mongodb" => "27017",
        _ => return None,
    })
}

/// Returns the forms of a host. Those of a pattern do not include other hosts that some readers
/// connect to instead.
fn host_forms(host: &str, is_text: bool) -> Vec<String> {
    let mut forms = Vec::new();
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = inside.and_then(|inside| inside.split('%').next()?.parse::<Ipv6Addr>().ok());
    match (address, inside) {
        (Some(address), _) => match address.to_ipv4_mapped() {
            Some(address) => forms.push(address.to_string()),
            None => {
                forms.push(format!("[{address}]"));
                if is_text {
                    forms.extend(embedded(address).map(|address| address.to_string()));
                }
            }
        },
        // Brackets around another host.
        (None, Some(inside)) => forms.extend([host.to_owned(), host_form(inside)]),
        (None, None) => {
            forms.push(host_form(host));
            // Some readers ignore a zero at the beginning; for others the number is octal.
            forms.extend(decimal(host).map(|address| address.to_string()));
        }
    }
    if forms.iter().any(|form| is_local(form)) {
        forms.push("localhost".to_owned());
    }
    forms
}

/// Returns the IPv4 address inside an IPv6 address: compatible and translated (RFC 4291 §2.5.5, RFC
/// 6145 §1.3), NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2), Teredo (RFC 4380 §4), ISATAP (RFC 5214
/// §6.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let at = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, _, _, _, _, high, low]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low]
        | [0x2002, high, low, _, _, _, _, _] => at(high, low),
        [0x2001, 0, _, _, _, _, high, low] => at(!high, !low),
        _ => None,
    }
}

fn host_form(host: &str) -> String {
    if let Some(address) = ipv4(host) {
        return address.to_string();
    }
    let labels = host.split('.').map(|label| {
        let decoded = label.strip_prefix("xn--").and_then(punycode);
        decoded.map_or_else(|| label.to_owned(), |label| fold(&label).into_owned())
    });
    labels.collect::<Vec<_>>().join(".")
}

/// Parses an IPv4 address of four decimal numbers, of which some begin with a zero.
fn decimal(host: &str) -> Option<Ipv4Addr> {
    let part = |part: &str| part.trim_start_matches('0').parse::<u8>().ok();
    let number = |text: &str| match text.bytes().all(|byte| byte == b'0') {
        true => Some(0).filter(|_| !text.is_empty()),
        false => part(text),
    };
    let has_zero = host.split('.').any(|part| part.len() > 1 && part.starts_with('0'));
    let numbers: Vec<u8> =
        has_zero.then(|| host.split('.').map(number).collect::<Option<_>>()).flatten()?;
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(numbers).ok()?))
}

/// Parses an IPv4 address in any of the forms of `inet_aton`: one to four numbers, decimal, octal
/// or hexadecimal.
fn ipv4(host: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    let bits = 32_u32.checked_sub(u32::try_from(first.len()).ok()?.checked_mul(8)?)?;
    if first.len() > 3 || (bits < 32 && *last >= 1 << bits) {
        return None;
    }
    let mut address = *last;
    for (at, byte) in (1_u32..).zip(first) {
        address |= u32::from(u8::try_from(*byte).ok()?).checked_shl(32 - 8 * at)?;
    }
    Some(Ipv4Addr::from(address))
}

/// Decodes Punycode (RFC 3492 §6.2).
fn punycode(text: &str) -> Option<String> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    /// The longest label of a host.
    const LONGEST: usize = 63;
    let (basic, extended) = text.rsplit_once('-').unwrap_or(("", text));
    if text.len() > LONGEST || !text.is_ascii() {
        return None;
    }
    let mut output: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = extended.bytes().peekable();
    while digits.peek().is_some() {
        let before = i;
        let (mut weight, mut k) = (1_u32, BASE);
        loop {
            let digit = match digits.next()? {
                letter @ b'a'..=b'z' => u32::from(letter - b'a'),
                digit @ b'0'..=b'9' => u32::from(digit - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k = k.checked_add(BASE)?;
        }
        let count = u32::try_from(output.len()).ok()?.checked_add(1)?;
        let mut delta = (i - before) / if before == 0 { 700 } else { 2 };
        delta += delta / count;
        let mut steps = 0;
        while delta > (BASE - T_MIN) * T_MAX / 2 {
            delta /= BASE - T_MIN;
            steps += BASE;
        }
        bias = steps + (BASE - T_MIN + 1) * delta / (delta + 38);
        n = n.checked_add(i / count)?;
        i %= count;
        output.insert(usize::try_from(i).ok()?, char::from_u32(n)?);
        i += 1;
    }
    Some(output.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punycode_is_decoded() {
        // RFC 3492 §7.1 (A), (B), (L), and names in use.
        for (text, decoded) in [
            ("egbpdaj6bu4bxfgehfvwxn", Some("ليهمابتكلموشعربي؟")),
            ("ihqwcrb4cv8a8dqg056pqjye", Some("他们为什么不说中文")),
            ("3b-ww4c5e180e575a65lsy2b", Some("3年b組金八先生")),
            ("strae-oqa", Some("straße")),
            ("mnchen-3ya", Some("münchen")),
            ("bcher-kva", Some("bücher")),
            ("abc-", Some("abc")),
            ("!", None),
            ("99999999", None),
            ("a-b-ü", None),
        ] {
            assert_eq!(punycode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn an_address_has_one_form() {
        for host in ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001"] {
            assert_eq!(host_form(host), "127.0.0.1", "{host}");
        }
        for host in ["017700000001", "0177.0.0.01", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
            assert_eq!(host_forms(host, false)[0], "127.0.0.1", "{host}");
        }
        assert_eq!(host_forms("[0:0:0:0:0:0:0:1%25eth0]", false)[0], "[::1]");
        for host in ["1.2.3.4.5", "256.1.1.1", "1.2.3.256", "09", "example.1x", "", "+1"] {
            assert_eq!(host_forms(host, true), [host]);
        }
    }

    #[test]
    fn j421_an_address_in_another_is_a_form_of_a_text() {
        for host in [
            "[::ffff:10.0.0.1]",
            "[::FFFF:a00:1]",
            "[::10.0.0.1]",
            "[::ffff:0:10.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::10.0.0.1]",
            "[2002:a00:1::1]",
            "[2001:0:1:2:3:4:f5ff:fffe]",
            "[fe80::5efe:10.0.0.1]",
            "[10.0.0.1]",
            "010.0.0.1",
            "10.000.00.01",
            "0xa.0.0.1",
            "167772161",
        ] {
            let forms = host_forms(host, true);
            assert!(forms.iter().any(|form| form == "10.0.0.1"), "J421 {host} {forms:?}");
        }
        for host in ["[fe80::a00:1]", "[2a00::1]", "10.0.0.2"] {
            assert!(!host_forms(host, true).iter().any(|form| form == "10.0.0.1"), "{host}");
        }
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "0", "[::]"] {
            let forms = host_forms(host, false);
            assert_eq!(forms.last().map(String::as_str), Some("localhost"), "J421 {host}");
        }
    }

    #[test]
    fn user_information_and_default_ports_are_removed() {
        let forms = |text, scheme| forms(text, scheme, false).map(|mut forms| forms.pop());
        for (text, scheme, form) in [
            ("a.example", "https", "a.example"),
            ("a.example.", "https", "a.example"),
            ("a.example:443", "https", "a.example"),
            ("a.example.:0443", "https", "a.example"),
            ("a.example:", "https", "a.example"),
            ("a.example:8443", "https", "a.example:8443"),
            ("a.example:80", "https", "a.example:80"),
            ("u:p@a.example", "https", "a.example"),
            ("[fe80::1]:443", "https", "[fe80::1]"),
            ("a.example:443", "", "a.example"),
            ("a.example:80", "", "a.example"),
            ("a.example:8080", "", "a.example:8080"),
        ] {
            assert_eq!(forms(text, scheme), Ok(Some(form.to_owned())), "{text}");
        }
        assert_eq!(forms("a@b@c", "https"), Err(Unbounded::Ambiguous));
    }
}
