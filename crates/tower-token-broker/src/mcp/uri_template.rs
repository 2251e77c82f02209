//! Expansion of URI templates with the variables that are known.
//!
//! Source: RFC 6570 §3, all four levels for variables that are texts.

use crate::{percent::is_unreserved, refusal::Reason};

/// The operator of an expression (RFC 6570 appendix A).
struct Operator {
    first: &'static str,
    between: &'static str,
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
            Some(b'+') => Self { allows_reserved: true, ..simple("", ",") },
            Some(b'#') => simple("#", ","),
            Some(b'.') => simple(".", "."),
            Some(b'/') => simple("/", "/"),
            Some(b';') => named(";", ";"),
            Some(b'?') => named("?", "&"),
            Some(b'&') => named("&", "&"),
            _ => return (simple("", ","), expression),
        };
        (operator, expression.get(1..).unwrap_or_default())
    }
}

/// Expands each expression of which a variable is known. Others stay as they are.
///
/// # Errors
/// The text is longer than the budget, which is reduced by its length, or a value is not clear.
pub(super) fn expand<'v>(
    template: &str,
    value: impl Fn(&str) -> Result<Option<&'v str>, Reason>,
    budget: &mut usize,
) -> Result<String, Reason> {
    let mut expanded = Expanded { text: String::new(), budget };
    let mut rest = template;
    while let Some((literal, behind)) = rest.split_once('{') {
        let Some((expression, behind)) = behind.split_once('}') else { break };
        expanded.push(literal)?;
        if !expanded.push_expression(expression, &value)? {
            expanded.push("{")?;
            expanded.push(expression)?;
            expanded.push("}")?;
        }
        rest = behind;
    }
    expanded.push(rest)?;
    Ok(expanded.text)
}

/// The text that is written, and the number of bytes that may still be written.
struct Expanded<'b> {
    text: String,
    budget: &'b mut usize,
}

impl Expanded<'_> {
    // J429: however often a template repeats a value, the work ends here.
    fn push(&mut self, text: &str) -> Result<(), Reason> {
        *self.budget = self.budget.checked_sub(text.len()).ok_or(Reason::MemberTooLarge)?;
        self.text.push_str(text);
        Ok(())
    }

    /// Appends the values of an expression. Returns false if none is known.
    fn push_expression<'v>(
        &mut self,
        expression: &str,
        value: &impl Fn(&str) -> Result<Option<&'v str>, Reason>,
    ) -> Result<bool, Reason> {
        let (operator, variables) = Operator::of(expression);
        let mut is_first = true;
        for variable in variables.split(',') {
            let variable = variable.trim_end_matches('*');
            let (name, length) = match variable.split_once(':') {
                Some((name, length)) => (name, length.parse().unwrap_or(usize::MAX)),
                None => (variable, usize::MAX),
            };
            let Some(value) = value(name.trim())? else { continue };
            self.push(if is_first { operator.first } else { operator.between })?;
            is_first = false;
            if operator.is_named {
                self.push(name)?;
                self.push("=")?;
            }
            for char in value.chars().take(length) {
                self.push_char(char, operator.allows_reserved)?;
            }
        }
        Ok(!is_first)
    }

    /// Appends a character, escaped unless it may stay.
    fn push_char(&mut self, char: char, allows_reserved: bool) -> Result<(), Reason> {
        let mut bytes = [0; 4];
        for byte in char.encode_utf8(&mut bytes).bytes() {
            if is_unreserved(byte) || (allows_reserved && b":/?#[]@!$&'()*+,;=%".contains(&byte)) {
                self.push(char::from(byte).encode_utf8(&mut [0; 4]))?;
            } else {
                self.push("%")?;
                for digit in [byte >> 4, byte & 15].map(hex_digit) {
                    self.push(digit.encode_utf8(&mut [0; 4]))?;
                }
            }
        }
        Ok(())
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
                _ => return Ok(None),
            };
            Ok(Some(value))
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
            let mut budget = 100;
            assert_eq!(expand(template, value, &mut budget).unwrap(), expanded, "{template}");
            assert_eq!(budget, 100 - expanded.len(), "{template}");
            let mut budget = expanded.len() - 1;
            let found = expand(template, value, &mut budget);
            assert_eq!(found, Err(Reason::MemberTooLarge), "J429 {template}");
        }
    }
}
