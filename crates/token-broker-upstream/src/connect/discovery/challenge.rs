//! The challenge of a server that requires a token (RFC 9110 §11.6.1, RFC 9728 §5.1).

use http::{HeaderMap, header};

/// Returns the value of `resource_metadata` in the Bearer challenges of a response. Of several
/// different ones, none.
pub(super) fn resource_metadata(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
    let mut found: Option<String> = None;
    for value in values.filter_map(|value| value.to_str().ok()) {
        for named in parameters(value, "resource_metadata") {
            match &found {
                Some(before) if *before != named => return None,
                Some(_) | None => found = Some(named),
            }
        }
    }
    found
}

/// Returns the values of a parameter, whatever challenge of the value it belongs to: the schemes
/// next to Bearer have no parameter of this name.
fn parameters(value: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some(at) = find_ignoring_case(rest, name) {
        let (before, after) = rest.split_at(at);
        let is_start = before.chars().next_back().is_none_or(|c| matches!(c, ' ' | ',' | '\t'));
        let after = after.get(name.len()..).unwrap_or_default();
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        if let (true, false, Some(value)) = (is_start, is_in_quotes(before), value) {
            found.extend(read(value));
        }
        rest = after;
    }
    found
}

fn find_ignoring_case(text: &str, name: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(name)
}

/// Returns whether the end of the text is within a quoted string.
fn is_in_quotes(text: &str) -> bool {
    let mut is_quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_quoted => drop(chars.next()),
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
    }
    is_quoted
}

/// Reads a token or a quoted string from the beginning of the text.
fn read(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let token = text.split([',', ' ', '\t']).next()?;
        return (!token.is_empty()).then(|| token.to_owned());
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        resource_metadata(&headers)
    }

    #[test]
    fn the_parameter_is_found_in_each_form() {
        let url = "https://mcp.example/.well-known/oauth-protected-resource/mcp";
        for value in [
            format!("Bearer resource_metadata=\"{url}\""),
            format!("Bearer error=\"invalid_token\", resource_metadata=\"{url}\""),
            format!("bearer realm=\"a, b\",Resource_Metadata = \"{url}\", scope=\"x\""),
            format!("Basic realm=\"x\", Bearer resource_metadata={url}"),
        ] {
            assert_eq!(of(&[&value]).as_deref(), Some(url), "{value}");
        }
        let one = format!("Bearer resource_metadata=\"{url}\"");
        assert_eq!(of(&["Basic realm=\"x\"", &one]).as_deref(), Some(url));
        assert_eq!(of(&[&one, &one]).as_deref(), Some(url));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_ignored() {
        for values in [
            &[][..],
            &["Bearer"],
            &["Bearer realm=\"resource_metadata=https://evil.example/\""],
            &["Bearer x_resource_metadata=\"https://evil.example/\""],
            &["Bearer resource_metadata=https://a.example/, resource_metadata=https://b.example/"],
            &["Bearer resource_metadata=\"https://open.example/"],
            &["Bearer resource_metadata"],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}
