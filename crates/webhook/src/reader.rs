//! Reading JSON by asking for the parts that matter.
//!
//! Most of a review is skipped, so that skipping is what has to be fast: it only counts brackets outside of strings, in
//! blocks of 64 bytes (`scan`), and does not check what lies between them; an API server has written it. What is read is borrowed from the text unless it
//! holds escapes. Reading is as lenient as the API server's: `null` is absence, of two equal keys the later one counts.

mod scan;

use std::borrow::Cow;

/// No Pod has longer lists. The bound keeps a hostile body from growing into many times its size in
/// memory.
pub(crate) const LONGEST_LIST: usize = 4096;

/// Why a text could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It ends in the middle of a value.
    #[error("it ends early")]
    Ends,
    /// What stands at this byte can't stand there.
    #[error("it is not JSON (byte {0})")]
    Syntax(usize),
    /// A value that begins at this byte is not of the type that its field has.
    #[error("a field is not of its type (byte {0})")]
    Type(usize),
    /// A list is longer than any Pod's.
    #[error("a list is too long (byte {0})")]
    Length(usize),
}

/// What can be read from a [`Reader`]. Implementations consume exactly one value.
pub(crate) trait Read<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault>;
}

/// A position in a text.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        Reader { text, at: 0 }
    }

    /// At the beginning of bytes, which must be UTF-8 throughout.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Self, Fault> {
        std::str::from_utf8(bytes)
            .map(Reader::new)
            .map_err(|error| Fault::Syntax(error.valid_up_to()))
    }

    /// Reads the whole text as one value.
    pub(crate) fn whole<T: Read<'a>>(mut self) -> Result<T, Fault> {
        let value = T::read(&mut self)?;
        self.end()?;
        Ok(value)
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Err(Fault::Ends) => Ok(()),
            _ => Err(Fault::Syntax(self.at)),
        }
    }

    /// Hands each key of an object to `field`, which must consume the value; `null` has none.
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&str, &mut Reader<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.entries(|key, reader| field(&key, reader))
    }

    /// The same for keys that are kept.
    pub(crate) fn entries(
        &mut self,
        mut field: impl FnMut(Cow<'a, str>, &mut Reader<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.open(b'{', b'}')? {
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(Fault::Syntax(self.at));
            }
            let key = self.quoted()?;
            if self.peek()? != b':' {
                return Err(Fault::Syntax(self.at));
            }
            self.at += 1;
            field(key, self)?;
            if !self.continues(b'}')? {
                return Ok(());
            }
        }
    }

    /// Reads all items of a list of at most `longest`; `null` has none.
    pub(crate) fn list<T: Read<'a>>(&mut self, longest: usize) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        if !self.open(b'[', b']')? {
            return Ok(items);
        }
        loop {
            if items.len() == longest {
                return Err(self.too_long());
            }
            items.push(T::read(self)?);
            if !self.continues(b']')? {
                return Ok(items);
            }
        }
    }

    /// The fault that a list or an object has too many items up to here.
    pub(crate) fn too_long(&self) -> Fault {
        Fault::Length(self.at)
    }

    /// Reads a string; `null` is the empty one.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        match self.peek()? {
            b'"' => self.quoted(),
            _ if self.null() => Ok(Cow::Borrowed("")),
            _ => Err(Fault::Type(self.at)),
        }
    }

    /// Consumes a string or a `null`, and returns how many bytes stand between the quotes.
    pub(crate) fn skip_string(&mut self) -> Result<usize, Fault> {
        match self.peek()? {
            b'"' => {
                let begin = self.at + 1;
                self.past_quote()?;
                Ok(self.at - 1 - begin)
            }
            _ if self.null() => Ok(0),
            _ => Err(Fault::Type(self.at)),
        }
    }

    /// Reads a boolean; `null` is false.
    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        self.peek()?;
        if self.literal("true") {
            return Ok(true);
        }
        if self.literal("false") || self.null() {
            Ok(false)
        } else {
            Err(Fault::Type(self.at))
        }
    }

    /// Consumes a `null` if one is next.
    pub(crate) fn null(&mut self) -> bool {
        self.peek().is_ok() && self.literal("null")
    }

    /// Consumes one value of any kind, however deep.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        match self.peek()? {
            b'"' => self.past_quote(),
            b'{' | b'[' => {
                let end = scan::end_of_nested(bytes, self.at + 1).ok_or(Fault::Ends)?;
                self.at = end + 1;
                Ok(())
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                self.at += bytes[self.at..].iter().take_while(|byte| word(byte)).count();
                Ok(())
            }
            _ => Err(Fault::Syntax(self.at)),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<u8, Fault> {
        loop {
            match self.text.as_bytes().get(self.at) {
                None => return Err(Fault::Ends),
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
            }
        }
    }

    fn literal(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Enters an object or a list; false when it is empty or `null`, and then it is consumed.
    fn open(&mut self, opening: u8, closing: u8) -> Result<bool, Fault> {
        if self.peek()? != opening {
            return if self.null() {
                Ok(false)
            } else {
                Err(Fault::Type(self.at))
            };
        }
        self.at += 1;
        let empty = self.peek()? == closing;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Consumes a comma, or the end of the object or list; whether there is more.
    fn continues(&mut self, closing: u8) -> Result<bool, Fault> {
        let next = self.peek()?;
        if next != b',' && next != closing {
            return Err(Fault::Syntax(self.at));
        }
        self.at += 1;
        Ok(next == b',')
    }

    /// Consumes a string whose quote is next.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Fault> {
        let begin = self.at + 1;
        let special = special(self.text.as_bytes(), begin).ok_or(Fault::Ends)?;
        if self.text.as_bytes()[special] == b'"' {
            self.at = special + 1;
            return Ok(Cow::Borrowed(&self.text[begin..special]));
        }
        self.past_quote()?;
        let escaped = &self.text[begin..self.at - 1];
        unescape(escaped).map(Cow::Owned).ok_or(Fault::Syntax(begin))
    }

    /// Skips a string whose quote is next.
    fn past_quote(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        // Most strings are short and hold no escapes.
        let mut end = special(bytes, self.at + 1).ok_or(Fault::Ends)?;
        if bytes[end] != b'"' {
            end = scan::end_of_string(bytes, end).ok_or(Fault::Ends)?;
        }
        self.at = end + 1;
        Ok(())
    }
}

/// The first quote or backslash at or after `from`, eight bytes at a time.
fn special(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of each zero byte is set, and of none below the first.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let rest = bytes.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ u64::from_ne_bytes([b'"'; 8])) | zeros(word ^ u64::from_ne_bytes([b'\\'; 8]));
        if found != 0 {
            return Some(from + index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail_at = bytes.len() - tail.len();
    tail.iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .map(|at| tail_at + at)
}

/// What an escaped string stands for; `None` for escapes that stand for nothing, such as half a surrogate pair.
fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut unit = code_unit(&mut rest)?;
                if (0xd800..0xdc00).contains(&unit) {
                    rest = rest.strip_prefix("\\u")?;
                    let low = code_unit(&mut rest)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    unit = 0x1_0000 + ((unit - 0xd800) << 10) + low;
                }
                char::from_u32(unit)?
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Takes four hexadecimal digits.
fn code_unit(rest: &mut &str) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests;
