//! Source text as names and symbols, without comments and without what literals hold.

/// A name, `::`, another character, or a string literal, which begins with `"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Token {
    /// Whether this is a name or a keyword.
    pub(crate) fn is_name(&self) -> bool {
        self.text
            .starts_with(|first: char| first == '_' || first.is_alphabetic())
    }
}

/// The tokens of a source file. Text that is not Rust gives tokens, too, and no error.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        rest: source,
        line: 1,
        tokens: Vec::new(),
    };
    while reader.step() {}
    reader.tokens
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    /// Reads one token, comment or space. Returns false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment(self.rest));
        } else if let Some(length) = raw_string(self.rest) {
            self.push("\"", length);
        } else if first == '"' {
            let length = string(self.rest);
            let text = self.rest[..length].trim_end_matches('"').to_owned();
            self.push(&text, length);
        } else if first == '\'' {
            self.skip(character_or_lifetime(self.rest));
        } else if first == '_' || first.is_alphanumeric() {
            let name = self.rest.strip_prefix("r#").unwrap_or(self.rest);
            let length = name
                .find(|next: char| next != '_' && !next.is_alphanumeric())
                .unwrap_or(name.len());
            let text = name[..length].to_owned();
            self.push(&text, self.rest.len() - name.len() + length);
        } else if self.rest.starts_with("::") {
            self.push("::", 2);
        } else {
            self.push(&first.to_string(), first.len_utf8());
        }
        true
    }

    fn push(&mut self, text: &str, length: usize) {
        self.tokens.push(Token {
            text: text.to_owned(),
            line: self.line,
        });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

/// The length of the comment, which may hold other ones.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string literal in quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string literal, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].len() - text[prefix.len()..].trim_start_matches('#').len();
    let begin = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = text[begin..].find(&end).map(|at| begin + at + end.len());
    Some(length.unwrap_or(text.len()))
}

/// The length of a character literal or of a lifetime's quote.
fn character_or_lifetime(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        // Behind the escaped character the next quote is the last one.
        Some((_, '\\')) => {
            let from = characters.nth(1).map_or(text.len(), |(at, _)| at);
            text[from..].find('\'').map_or(text.len(), |at| from + at + 1)
        }
        Some((_, _)) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn path_gives_names_and_separators() {
        assert_eq!(
            texts("use crate::a::{B, c};").join(" "),
            "use crate :: a :: { B , c } ;"
        );
    }

    #[test]
    fn comments_and_literals_give_no_names() {
        let source = r##"/* a /* b */ c */ // d
            x("e \" f", 'g', '\'', '\u{1F600}', r"h", r#"i " j"#, b"k", br"l");"##;
        let names: Vec<_> = tokens(source)
            .into_iter()
            .filter(Token::is_name)
            .map(|token| token.text)
            .collect();
        assert_eq!(names, ["x", "b"]);
    }

    #[test]
    fn lifetime_does_not_hide_what_follows() {
        assert_eq!(texts("&'a crate::b, 'c: loop").join(" "), "& a crate :: b , c : loop");
    }

    #[test]
    fn raw_name_is_a_name() {
        assert_eq!(texts("crate::r#type"), ["crate", "::", "type"]);
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let found = tokens("/*\n*/ \"\n\" a");
        assert_eq!(found.last().map(|token| token.line), Some(3));
    }

    #[test]
    fn unfinished_text_ends() {
        for source in ["/*", "\"a", "'", "'\\", "r#\"", "r#"] {
            tokens(source);
        }
    }
}
