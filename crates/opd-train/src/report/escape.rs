use std::fmt;

/// Text in a page: nothing in it is markup, in an element or in a quoted attribute.
///
/// Control characters that HTML does not allow are shown as their pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            write_escaped(f, character)?;
        }
        Ok(())
    }
}

/// Text of one token: as [`Text`], with what cannot be seen made visible.
///
/// Line breaks at its end are shown but not made; those within it are both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a>(pub(super) &'a str);

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("∅");
        }
        let within = self.0.trim_end_matches('\n').len();
        for (at, character) in self.0.char_indices() {
            match character {
                '\n' if at < within => f.write_str("↵\n")?,
                '\n' => f.write_str("↵")?,
                '\t' => f.write_str("⇥\t")?,
                other => write_escaped(f, other)?,
            }
        }
        Ok(())
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match character {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\'' => f.write_str("&#39;"),
        '\n' | '\t' => write!(f, "{character}"),
        '\u{0}'..'\u{20}' => {
            let picture = char::from_u32(0x2400 + character as u32);
            write!(f, "{}", picture.unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        '\u{7f}'..='\u{9f}' => f.write_str("␡"),
        _ => write!(f, "{character}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        let text = "a<b>&amp;\"'\u{0}\r\u{1b}\u{85}é\n";
        let expected = "a&lt;b&gt;&amp;amp;&quot;&#39;␀␍␛␡é\n";
        assert_eq!(Text(text).to_string(), expected);
    }

    #[test]
    fn what_cannot_be_seen_in_a_token_is_shown() {
        let cases = [("", "∅"), ("\n", "↵"), ("a\nb\n\n", "a↵\nb↵↵"), ("\t<", "⇥\t&lt;")];
        for (token, expected) in cases {
            assert_eq!(Token(token).to_string(), expected);
        }
    }
}
