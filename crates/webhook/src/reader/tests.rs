use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A value as read with this reader alone, with numbers left out.
#[derive(Debug, PartialEq)]
enum Tree {
    Nothing,
    Flag(bool),
    Number,
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'a> Read<'a> for Tree {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(match reader.peek()? {
            b'{' => {
                let mut fields = Vec::new();
                reader.object(|key, reader| {
                    fields.push((key.to_owned(), Tree::read(reader)?));
                    Ok(())
                })?;
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Tree::Object(fields)
            }
            b'[' => Tree::List(reader.list(LONGEST_LIST)?),
            b'"' => Tree::Text(reader.string()?.into_owned()),
            b't' | b'f' => Tree::Flag(reader.boolean()?),
            _ if reader.null() => Tree::Nothing,
            _ => {
                reader.skip()?;
                Tree::Number
            }
        })
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Tree::Nothing,
            Value::Bool(flag) => Tree::Flag(flag),
            Value::Number(_) => Tree::Number,
            Value::String(text) => Tree::Text(text),
            Value::Array(items) => Tree::List(items.into_iter().map(Tree::from).collect()),
            Value::Object(fields) => Tree::Object(fields.into_iter().map(|(key, value)| (key, value.into())).collect()),
        }
    }
}

/// A value that is skipped.
#[derive(Debug, PartialEq)]
struct Skipped;

impl<'a> Read<'a> for Skipped {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.skip().map(|()| Skipped)
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z\"\\\\{}\\[\\],: ]{0,20}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The same document with every character of its strings escaped.
fn escaped(document: &str) -> String {
    let (mut out, mut inside, mut after_backslash) = (String::new(), false, false);
    for character in document.chars() {
        let quote = character == '"' && !after_backslash;
        inside ^= quote;
        let plain = inside && !quote && !after_backslash && character != '\\';
        after_backslash = character == '\\' && !after_backslash;
        // What follows `\u` are digits, which may not be escaped themselves; such documents stay as they are.
        if plain && !document.contains("\\u") {
            for unit in character.encode_utf16(&mut [0; 2]) {
                crate::json::push(&mut out, format_args!("\\u{unit:04X}"));
            }
        } else {
            out.push(character);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_read_as_serde_json_reads_them(value in value()) {
        for document in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), escaped(&value.to_string())] {
            let read: Tree = Reader::new(&document).whole().unwrap();
            prop_assert_eq!(read, Tree::from(value.clone()), "{}", document);
            prop_assert_eq!(Reader::new(&document).whole::<Skipped>(), Ok(Skipped), "{}", document);
        }
    }

    #[test]
    fn what_serde_json_cannot_read_is_not_read_but_where_it_is_more_lenient(text in "[\\[\\]{}\",:a-z0-9\\\\ u.-]{0,24}") {
        let read = Reader::new(&text).whole::<Tree>();
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => prop_assert!(read.is_ok(), "{value} was not read: {read:?}"),
            // Numbers and words are only skipped, not understood; so are control characters.
            Err(_) => if !text.contains(|c: char| c.is_ascii_alphanumeric() || "-.".contains(c)) {
                prop_assert!(read.is_err(), "{text:?} was read as {read:?}");
            },
        }
    }

    #[test]
    fn a_document_that_is_cut_off_is_not_read(value in value(), cut in any::<prop::sample::Index>()) {
        let document = serde_json::json!([value]).to_string();
        let Some(text) = document.get(..cut.index(document.len())) else { return Ok(()) };
        prop_assert_eq!(Reader::new(text).whole::<Skipped>(), Err(Fault::Ends), "{}", text);
        prop_assert!(Reader::new(text).whole::<Tree>().is_err(), "{}", text);
    }

    #[test]
    fn the_first_special_byte_is_found_wherever_it_is(bytes in prop::collection::vec(any::<u8>(), 0..40), from in 0..50_usize) {
        let expected = bytes.iter().enumerate().skip(from).find(|(_, byte)| matches!(byte, b'"' | b'\\')).map(|(at, _)| at);
        prop_assert_eq!(special(&bytes, from), expected);
    }
}

#[test]
fn faults_say_what_and_where() {
    let cases: [(&str, Fault); 9] = [
        ("", Fault::Ends),
        (" [\"a", Fault::Ends),
        ("[\"a\\", Fault::Ends),
        ("[1 2]", Fault::Syntax(3)),
        ("{\"a\" 1}", Fault::Syntax(5)),
        ("{a:1}", Fault::Syntax(1)),
        ("[1] x", Fault::Syntax(4)),
        ("[\"\\ud800\"]", Fault::Syntax(2)),
        ("[\"\\x\"]", Fault::Syntax(2)),
    ];
    for (text, fault) in cases {
        assert_eq!(Reader::new(text).whole::<Tree>(), Err(fault), "{text:?}");
    }
    assert_eq!(Reader::new("[7]").string(), Err(Fault::Type(0)));
    assert_eq!(Reader::new("7").boolean(), Err(Fault::Type(0)));
    assert_eq!(Reader::from_bytes(b"ab\xff").unwrap_err(), Fault::Syntax(2));
    let long = format!("[{}0]", "0,".repeat(5000));
    assert!(matches!(
        Reader::new(&long).list::<Skipped>(LONGEST_LIST),
        Err(Fault::Length(_))
    ));
}
