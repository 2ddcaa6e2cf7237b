//! The little XML that the plain lane writes: escaping, and S3's listing documents.

use std::fmt::Write as _;

/// Appends `text` with XML's special characters, and the control characters that XML 1.0 cannot hold, replaced.
pub fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            // Not allowed in XML 1.0 in any form: the replacement character keeps the document readable.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

/// `<name>text</name>`, escaped.
pub fn element(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, "<{name}>");
    escape_into(out, text);
    let _ = write!(out, "</{name}>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_break_the_document() {
        let mut out = String::new();
        element(&mut out, "Key", "a\u{1}<b>&\r\n\"c\"");
        assert_eq!(out, "<Key>a\u{fffd}&lt;b&gt;&amp;&#13;\n&quot;c&quot;</Key>");
    }
}
