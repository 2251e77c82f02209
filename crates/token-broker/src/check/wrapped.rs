//! Lines for terminals.

/// Longest line, in characters.
const WIDTH: usize = 100;

/// Returns the text with its advice, the lines that begin with a blank, wrapped at 100 characters.
/// The other lines have a place and stay whole, so that programs can read them. So do the parts in
/// grave accents, which are copied.
pub(super) fn wrapped(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|line| if line.starts_with(' ') { wrapped_line(line) } else { line.to_owned() })
        .collect();
    lines.join("\n")
}

fn wrapped_line(line: &str) -> String {
    let text = line.trim_start();
    let indent = " ".repeat(line.len() - text.len());
    let mut wrapped = indent.clone();
    let mut column = indent.len();
    for (number, word) in words(text).enumerate() {
        let width = word.chars().count();
        if number > 0 && column + 1 + width > WIDTH {
            wrapped.push('\n');
            wrapped.push_str(&indent);
            column = indent.len();
        } else if number > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}

/// Returns the parts between blanks that are not in grave accents.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |character| {
        is_quoted ^= character == '`';
        character == ' ' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_wrapped() {
        let advice = format!("  {}", "word ".repeat(40).trim_end());
        let text = wrapped(&format!("{}\n{advice}", "place ".repeat(30)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "place ".repeat(30));
        assert_eq!(lines.len(), 4);
        for line in &lines[1..] {
            assert!(line.starts_with("  word") && line.len() <= 100 && !line.ends_with(' '));
        }
        let joined: Vec<_> = lines[1..].iter().map(|line| line.trim_start()).collect();
        assert_eq!(format!("  {}", joined.join(" ")), advice);
    }

    #[test]
    fn lines_of_the_width_stay() {
        for (length, lines) in [(98, 1), (99, 2)] {
            let text = format!("  {} {}", "a".repeat(length - 11), "b".repeat(10));
            assert_eq!(wrapped(&text).lines().count(), lines, "{length}");
        }
        // Characters count, not octets.
        let text = format!("  {} {}", "\u{fc}".repeat(87), "b".repeat(10));
        assert_eq!(wrapped(&text), text);
    }

    #[test]
    fn what_is_copied_stays_whole() {
        let code = "`loopback_hosts = [\"127.0.0.1:9000\", \"localhost:9000\"]`";
        let text = format!("  {} allow the host by name: {code}", "x".repeat(60));
        assert!(wrapped(&text).contains(code));
        let long = format!("  {}", "y".repeat(200));
        assert_eq!(wrapped(&long), long);
        assert_eq!(wrapped(""), "");
    }
}
