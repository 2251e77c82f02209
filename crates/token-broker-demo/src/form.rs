//! Forms: the encoding of their fields, and the fields of a form in a page.

/// Encodes fields as `application/x-www-form-urlencoded`.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let of = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(of).collect()
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

/// A form in a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Target of the form.
    pub(crate) action: String,
    /// Hidden fields.
    pub(crate) hidden: Vec<(String, String)>,
}

/// Returns the last form in a page that contains this text.
pub(crate) fn with_text(page: &str, text: &str) -> Option<Form> {
    let forms = page.split("<form ").skip(1);
    let bodies = forms.map(|form| form.split("</form>").next().unwrap_or_default());
    let form = bodies.filter(|form| form.contains(text)).last()?;
    let inputs = form.split("<input ").filter(|input| input.starts_with("type=\"hidden\""));
    let hidden = inputs.filter_map(|input| Some((attribute(input, "name")?, value(input)?)));
    Some(Form { action: attribute(form, "action")?, hidden: hidden.collect() })
}

/// Escapes a text for a page.
pub(crate) fn escaped(text: &str) -> String {
    let of = |character| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(of).collect()
}

fn value(tag: &str) -> Option<String> {
    attribute(tag, "value")
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let plain = value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    Some(plain.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_with_a_text_is_read() {
        let page = "<form method=\"post\" action=\"/a\"><input type=\"hidden\" name=\"x\" \
                    value=\"1\">one</form><form action=\"/b\"><input type=\"text\" name=\"y\">\
                    two</form>";
        let one = with_text(page, "one").unwrap();
        assert_eq!(one, Form { action: "/a".into(), hidden: vec![("x".into(), "1".into())] });
        assert_eq!(with_text(page, "").unwrap().action, "/b");
        assert_eq!(with_text(page, "three"), None);
    }

    #[test]
    fn an_escaped_value_is_read_as_it_was() {
        let text = "a\"b<c>&amp;";
        let page = format!(
            "<form action=\"{}\"><input type=\"hidden\" name=\"n\" value=\"\">",
            escaped(text)
        );
        assert_eq!(with_text(&page, "").unwrap().action, text);
        assert_eq!(encode(&[("a b", "1&2")]), "a%20b=1%262");
    }
}
