//! Leaves out what is compiled for tests only.

use crate::tokens::Token;

/// The keywords with which an item or a statement begins that ends with `;`.
const ENDS_WITH_SEMICOLON: [&str; 5] = ["use", "const", "static", "type", "let"];
/// The keywords with which an item begins that ends with `;` or with its closing brace.
const ENDS_WITH_BRACE: [&str; 11] = [
    "fn",
    "struct",
    "enum",
    "impl",
    "trait",
    "mod",
    "union",
    "unsafe",
    "async",
    "extern",
    "macro_rules",
];

/// The tokens without the items, fields, arms and statements behind `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some((attribute, end)) = attribute(tokens, at) else {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        };
        if !is_for_tests(attribute) {
            kept.extend_from_slice(&tokens[at..end]);
            at = end;
        } else if is(tokens, at + 1, "!") {
            // The whole file, or the rest of a block, which is as good as that.
            return kept;
        } else {
            at = end_of_item(tokens, end);
        }
    }
    kept
}

/// The attribute that begins here, between its brackets, and where it ends.
fn attribute(tokens: &[Token], at: usize) -> Option<(&[Token], usize)> {
    if !is(tokens, at, "#") {
        return None;
    }
    let open = if is(tokens, at + 1, "!") { at + 2 } else { at + 1 };
    if !is(tokens, open, "[") {
        return None;
    }
    let end = end_of_group(tokens, open);
    Some((tokens.get(open + 1..end.saturating_sub(1))?, end))
}

/// `cfg(test)` or `cfg(all(test, ...))`.
fn is_for_tests(attribute: &[Token]) -> bool {
    let texts: Vec<_> = attribute.iter().map(|token| token.text.as_str()).collect();
    matches!(
        texts[..],
        ["cfg", "(", "test", ")"] | ["cfg", "(", "all", "(", "test", ",", ..]
    )
}

/// Where the item, field, arm or statement ends that begins here, maybe with attributes of its own.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while let Some((_, end)) = attribute(tokens, at) {
        at = end;
    }
    if is(tokens, at, "pub") {
        at += 1;
        if is(tokens, at, "(") {
            at = end_of_group(tokens, at);
        }
    }
    let keyword = tokens.get(at).map_or("", |token| token.text.as_str());
    let is_constant_function = keyword == "const"
        && tokens
            .get(at + 1)
            .is_some_and(|next| ENDS_WITH_BRACE.contains(&next.text.as_str()));
    let semicolon_only = ENDS_WITH_SEMICOLON.contains(&keyword) && !is_constant_function;
    let is_item = semicolon_only || is_constant_function || ENDS_WITH_BRACE.contains(&keyword);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "(" | "[" => at = end_of_group(tokens, at),
            "{" => {
                at = end_of_group(tokens, at);
                if !semicolon_only {
                    return if !is_item && is(tokens, at, ",") { at + 1 } else { at };
                }
            }
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            ")" | "]" | "}" => return at,
            _ => at += 1,
        }
    }
    at
}

/// Where the group ends that opens here.
pub(crate) fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Whether this text stands here.
pub(crate) fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn left(source: &str) -> String {
        let left = without_tests(&tokens(source));
        left.iter()
            .map(|token| token.text.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn test_item_of_each_kind_is_left_out() {
        for item in [
            "mod tests { use x; fn f() {} }",
            "mod tests;",
            "pub(crate) fn f<A, B>(a: [u8; 2]) -> B where A: C { { } }",
            "use a::{b, c};",
            "const A: B = B { c: 1 };",
            "const fn f() { }",
            "struct A { b: C }",
            "struct A(B, C);",
            "#[derive(Debug)] enum A { B, C }",
            "impl A { fn b() { } }",
        ] {
            assert_eq!(left(&format!("a #[cfg(test)] {item} z")), "a z", "{item}");
            assert_eq!(left(&format!("a #[cfg(all(test, unix))] {item} z")), "a z", "{item}");
        }
    }

    #[test]
    fn test_field_arm_and_statement_are_left_out() {
        assert_eq!(left("struct A { #[cfg(test)] pub b: C, d: E }"), "struct A { d : E }");
        assert_eq!(left("A { #[cfg(test)] b }"), "A { }");
        assert_eq!(
            left("match a { #[cfg(test)] B => { c() } D => e }"),
            "match a { D => e }".replace("=>", "= >")
        );
        assert_eq!(left("{ #[cfg(test)] let a = B { c }; d }"), "{ d }");
    }

    #[test]
    fn other_attributes_stay_with_their_items() {
        assert_eq!(left("#[cfg(unix)] mod a;"), "# [ cfg ( unix ) ] mod a ;");
        assert_eq!(
            left("#[cfg(any(test, unix))] mod a;"),
            "# [ cfg ( any ( test , unix ) ) ] mod a ;"
        );
        assert_eq!(left("#[cfg(not(test))] mod a;"), "# [ cfg ( not ( test ) ) ] mod a ;");
    }

    #[test]
    fn file_for_tests_is_left_out() {
        assert_eq!(left("#![cfg(test)] use a::b;"), "");
    }
}
