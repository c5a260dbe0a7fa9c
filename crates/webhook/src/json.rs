//! Writing JSON and JSON Patch (RFC 6902) by hand, into one buffer.

use std::fmt::Write as _;

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x00..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escaped.is_empty() {
            push(out, format_args!("\\u{byte:04x}"));
        } else {
            out.push_str(escaped);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends formatted text.
pub(crate) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String can't fail");
}

/// Appends a JSON object of strings.
pub(crate) fn push_object<'a>(out: &mut String, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (position, (key, value)) in pairs.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_string(out, key);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// A JSON Patch that is being written.
#[derive(Debug, Default)]
pub(crate) struct Patch {
    text: String,
}

impl Patch {
    /// Replaces the string at `path`, which must need no escaping.
    pub(crate) fn replace(&mut self, path: std::fmt::Arguments<'_>, value: &str) {
        self.open("replace", path);
        self.text.push_str(",\"value\":");
        push_string(&mut self.text, value);
        self.text.push('}');
    }

    /// Adds what `write` writes, one JSON value, at `path`.
    pub(crate) fn add(&mut self, path: std::fmt::Arguments<'_>, write: impl FnOnce(&mut String)) {
        self.open("add", path);
        self.text.push_str(",\"value\":");
        write(&mut self.text);
        self.text.push('}');
    }

    /// Removes what is at `path`.
    pub(crate) fn remove(&mut self, path: std::fmt::Arguments<'_>) {
        self.open("remove", path);
        self.text.push('}');
    }

    fn open(&mut self, operation: &str, path: std::fmt::Arguments<'_>) {
        if self.text.is_empty() {
            // Three images, two secrets and three annotations fit.
            self.text.reserve(1536);
        }
        self.text.push(if self.text.is_empty() { '[' } else { ',' });
        push(
            &mut self.text,
            format_args!("{{\"op\":\"{operation}\",\"path\":\"{path}\""),
        );
    }

    /// The finished document; `None` when there is nothing to change.
    pub(crate) fn finish(mut self) -> Option<String> {
        if self.text.is_empty() {
            return None;
        }
        self.text.push(']');
        Some(self.text)
    }
}

/// One segment of a JSON Pointer (RFC 6901), escaped.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a>(pub(crate) &'a str);

impl std::fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '~' => f.write_str("~0")?,
                '/' => f.write_str("~1")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_were() {
        let every_ascii: String = (0_u8..128).map(char::from).collect();
        for text in ["", "plain", "\"\\\n\r\t\u{0}\u{1f}\u{7f}", "é\u{2028}😀", &every_ascii] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text, "{out}");
        }
    }

    #[test]
    fn pointer_segments_escape_tilde_and_slash() {
        assert_eq!(
            Segment("catamaran.dev/mirror~1").to_string(),
            "catamaran.dev~1mirror~01"
        );
    }

    #[test]
    fn a_patch_without_operations_is_none() {
        assert_eq!(Patch::default().finish(), None);
    }
}
