//! The layout of texts for people: wrapped lines, and equal ones folded.

use std::fmt;

/// Width of the text, in columns.
pub(super) const WIDTH: usize = 100;

/// Joins equal lines in a row to one, with their number.
pub(super) fn folded(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut folded: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match folded.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => folded.push((line, 1)),
        }
    }
    folded
        .into_iter()
        .map(|(line, times)| if times > 1 { format!("{times} times {line}") } else { line })
        .collect()
}

/// Wraps a line at spaces.
pub(super) fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in line.split(' ') {
        if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut current));
        } else if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

/// Writes a text after this beginning; its further lines begin with the other one.
pub(super) fn row(
    f: &mut fmt::Formatter<'_>,
    (first, further): (&str, &str),
    text: &str,
) -> fmt::Result {
    let mut start = first;
    for line in wrap(text, WIDTH.saturating_sub(first.len())) {
        writeln!(f, "{start}{line}")?;
        start = further;
    }
    Ok(())
}

/// Writes a text whose lines all begin alike.
pub(super) fn indented(f: &mut fmt::Formatter<'_>, (start, text): (&str, &str)) -> fmt::Result {
    row(f, (start, start), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lines_are_folded() {
        let lines = ["a", "a", "b", "a"].map(str::to_owned);
        assert_eq!(folded(lines.into_iter()), ["2 times a", "b", "a"]);
    }

    #[test]
    fn a_long_line_is_wrapped() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("longer", 3), ["longer"]);
    }
}
