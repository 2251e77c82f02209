//! Expansion of URI templates with the variables that are known.
//!
//! Source: RFC 6570 §3, all four levels for variables that are texts.

use crate::percent::is_unreserved;

/// The operator of an expression (RFC 6570 appendix A).
struct Operator {
    first: &'static str,
    between: char,
    is_named: bool,
    allows_reserved: bool,
}

impl Operator {
    /// Splits the operator from the variables of an expression.
    fn of(expression: &str) -> (Self, &str) {
        let simple = |first, between| Self {
            first,
            between,
            is_named: false,
            allows_reserved: matches!(first, "#"),
        };
        let named = |first, between| Self { is_named: true, ..simple(first, between) };
        let operator = match expression.as_bytes().first() {
            Some(b'+') => Self { allows_reserved: true, ..simple("", ',') },
            Some(b'#') => simple("#", ','),
            Some(b'.') => simple(".", '.'),
            Some(b'/') => simple("/", '/'),
            Some(b';') => named(";", ';'),
            Some(b'?') => named("?", '&'),
            Some(b'&') => named("&", '&'),
            _ => return (simple("", ','), expression),
        };
        (operator, expression.get(1..).unwrap_or_default())
    }
}

/// Expands each expression of which a variable is known. Others stay as they are.
pub(super) fn expand(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((literal, behind)) = rest.split_once('{') {
        let Some((expression, behind)) = behind.split_once('}') else { break };
        expanded.push_str(literal);
        if !push_expression(&mut expanded, expression, &value) {
            expanded.push('{');
            expanded.push_str(expression);
            expanded.push('}');
        }
        rest = behind;
    }
    expanded.push_str(rest);
    expanded
}

/// Appends the values of an expression. Returns false if none is known.
fn push_expression(
    text: &mut String,
    expression: &str,
    value: &impl Fn(&str) -> Option<String>,
) -> bool {
    let (operator, variables) = Operator::of(expression);
    let mut is_first = true;
    for variable in variables.split(',') {
        let variable = variable.trim_end_matches('*');
        let (name, length) = match variable.split_once(':') {
            Some((name, length)) => (name, length.parse().unwrap_or(usize::MAX)),
            None => (variable, usize::MAX),
        };
        let Some(value) = value(name.trim()) else { continue };
        if is_first {
            text.push_str(operator.first);
        } else {
            text.push(operator.between);
        }
        is_first = false;
        if operator.is_named {
            text.push_str(name);
            text.push('=');
        }
        value.chars().take(length).for_each(|char| push_char(text, char, operator.allows_reserved));
    }
    !is_first
}

/// Appends a character, escaped unless it may stay.
fn push_char(text: &mut String, char: char, allows_reserved: bool) {
    let mut bytes = [0; 4];
    for byte in char.encode_utf8(&mut bytes).bytes() {
        if is_unreserved(byte) || (allows_reserved && b":/?#[]@!$&'()*+,;=%".contains(&byte)) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.extend([byte >> 4, byte & 15].map(hex_digit));
        }
    }
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_expand_as_in_the_rfc() {
        // RFC 6570 §1.2 and §3.2.
        let value = |name: &str| {
            let value = match name {
                "var" => "value",
                "hello" => "Hello World!",
                "path" => "/foo/bar",
                "x" => "1024",
                "y" => "768",
                "empty" => "",
                _ => return None,
            };
            Some(value.to_owned())
        };
        for (template, expanded) in [
            ("{var}", "value"),
            ("{hello}", "Hello%20World%21"),
            ("{+hello}", "Hello%20World!"),
            ("{+path}/here", "/foo/bar/here"),
            ("{path}/here", "%2Ffoo%2Fbar/here"),
            ("X{#var}", "X#value"),
            ("map?{x,y}", "map?1024,768"),
            ("{#x,hello,y}", "#1024,Hello%20World!,768"),
            ("{+path:4}/b", "/foo/b"),
            ("{var:3}", "val"),
            ("X{.x,y}", "X.1024.768"),
            ("{/var,x}/here", "/value/1024/here"),
            ("{;x,y,empty}", ";x=1024;y=768;empty="),
            ("{?x,y}", "?x=1024&y=768"),
            ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
            ("{path*}", "%2Ffoo%2Fbar"),
            // Not known.
            ("{undef}/{var}", "{undef}/value"),
            ("{?undef,x}", "?x=1024"),
            ("{undef", "{undef"),
            ("a}b{var}", "a}bvalue"),
        ] {
            assert_eq!(expand(template, value), expanded, "{template}");
        }
    }
}
