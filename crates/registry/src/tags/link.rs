//! From a page to the next (RFC 8288).

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use crate::wire::failure::{Class, Failure};
use crate::wire::reply::Reply;

/// The next page, which must be the same list on the same host (RFC 8288; a foreign one would be a request forged by the
/// registry, with our token in it). Scheme and port are not looked at, and stay ours: behind another server a registry often
/// does not know its own. A header that can't be read is an error: the list may go on, and its end would be taken for the end.
pub(crate) fn next_link(reply: &Reply) -> Result<Option<Url>, Failure> {
    next_of(reply.url(), reply.headers()).map_err(|problem| {
        let (class, words) = match problem {
            Problem::Unreadable => (
                Class::Unexpected,
                "its Link header can't be read, so that the list may go on",
            ),
            Problem::Elsewhere => (Class::Misrouted, "its next page is elsewhere, which is not followed"),
        };
        reply.failure(class, format!("{}: {words}", reply.request))
    })
}

/// Why there is no telling what the next page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// The header is not a list of links.
    Unreadable,
    /// It leads elsewhere.
    Elsewhere,
}

fn next_of(here: &Url, headers: &HeaderMap) -> Result<Option<Url>, Problem> {
    let mut found = None;
    for value in headers.get_all(LINK) {
        let value = value.to_str().map_err(|_| Problem::Unreadable)?;
        let target = link(value, "next").ok_or(Problem::Unreadable)?;
        found = found.or(target);
    }
    let Some(target) = found else {
        return Ok(None);
    };
    let there = here.join(target).map_err(|_| Problem::Unreadable)?;
    let same = there.host() == here.host()
        && there.path() == here.path()
        && there.username().is_empty()
        && there.password().is_none();
    if !same {
        return Err(Problem::Elsewhere);
    }
    let mut next = here.clone();
    next.set_query(there.query());
    Ok(Some(next))
}

/// The target of a relation, such as `rel="next"`, in one `Link` value; the outer `None` when the value is no list of links (RFC 8288, 3).
#[expect(clippy::option_option, reason = "a list without the relation is not a broken list")]
pub(crate) fn link<'v>(value: &'v str, relation: &str) -> Option<Option<&'v str>> {
    let mut found = None;
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(found);
        }
        let (target, after) = rest.strip_prefix('<')?.split_once('>')?;
        let (is_related, after) = parameters(after, relation)?;
        if is_related && found.is_none() {
            found = Some(target);
        }
        rest = after;
    }
}

/// Reads the parameters of a link: whether it has the relation, and what follows it. The first `rel` counts.
fn parameters<'v>(mut rest: &'v str, relation: &str) -> Option<(bool, &'v str)> {
    let mut is_related = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(after) = rest.strip_prefix(';') else {
            let is_end = rest.is_empty() || rest.starts_with(',');
            return is_end.then_some((is_related.unwrap_or(false), rest));
        };
        let after = after.trim_start_matches([' ', '\t']);
        let end = after.find([' ', '\t', '=', ';', ',', '"', '<']).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        rest = after.trim_start_matches([' ', '\t']);
        let Some(after) = rest.strip_prefix('=') else { continue };
        let (value, after) = parameter(after.trim_start_matches([' ', '\t']))?;
        if name.eq_ignore_ascii_case("rel") && is_related.is_none() {
            let mut relations = value.split_ascii_whitespace();
            is_related = Some(relations.any(|rel| rel.eq_ignore_ascii_case(relation)));
        }
        rest = after;
    }
}

/// The value of a parameter, quoted or not, and what follows it. What is escaped within quotes stays so: no relation needs that.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(text.split_at(text.find([' ', '\t', ';', ',']).unwrap_or(text.len())));
    };
    let mut is_escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some((&quoted[..at], &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_link_is_found_in_every_shape() {
        let cases = [
            (
                r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            ("</x>; rel=next", Some("/x")),
            ("</x>;REL=NEXT", Some("/x")),
            (r#"</x>; title="t"; rel="prev next""#, Some("/x")),
            (r#"</p>; rel="prev", </x>; rel="next""#, Some("/x")),
            (r#"</p>; rel="prev""#, None),
            ("</x>", None),
            ("", None),
            (" , ", None),
            (r#"<>; rel="next""#, Some("")),
            (r#"</x> ; title="a, b; c < d \" e" ; rel = "next""#, Some("/x")),
            (",,</p>; rel=prev ,, </x>;rel=next;", Some("/x")),
            ("</p>; rel=prev; rel=next", None),
            ("</x>; hreflang; rel=next", Some("/x")),
            (r#"</x?a=1,2;3>; rel="next""#, Some("/x?a=1,2;3")),
            (r#"</x>; rel="https://r.test/rel next""#, Some("/x")),
            (r#"</p>; title="</x>; rel=next""#, None),
        ];
        for (value, expected) in cases {
            assert_eq!(link(value, "next"), Some(expected), "{value}");
        }
    }

    #[test]
    fn link_header_that_is_none_is_an_error_and_no_end() {
        let here = Url::parse("https://registry.test/v2/team/web/tags/list").unwrap();
        let values: [&[u8]; 9] = [
            b"<",
            b"</x; rel=next",
            b"/x; rel=next",
            b"next",
            b"</x> rel=next",
            br#"</x>; rel="next"#,
            b"</p>; rel=prev, <",
            b"</p>; rel=prev </x>; rel=next",
            b"</x\xff>; rel=next",
        ];
        for value in values {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, http::HeaderValue::from_bytes(value).unwrap());
            assert_eq!(next_of(&here, &headers), Err(Problem::Unreadable), "{value:?}");
        }
    }

    #[test]
    fn fuzzed_links_lead_to_the_same_list_or_nowhere() {
        let samples = [
            r#"</v2/team/web/tags/list?last=b&n=2>; rel="next""#,
            r#"<https://registry.test:5443/v2/team/web/tags/list?n=2&next_page=gAAAAAB%3D>; rel="next""#,
            "<http://registry.test/v2/team/web/tags/list?last=b>; rel=next; title=t",
            r#"</p>; rel="prev", <?last=b>; rel="first next""#,
            r#"<//evil.test/v2/team/web/tags/list>; rel="next""#,
        ];
        let here = Url::parse("https://registry.test:5443/v2/team/web/tags/list?n=1000").unwrap();
        let property = |input: Vec<u8>| {
            let Ok(value) = http::HeaderValue::from_bytes(&input) else {
                return Ok(());
            };
            let mut headers = HeaderMap::new();
            headers.insert(LINK, value);
            if let Ok(Some(next)) = next_of(&here, &headers) {
                prop_assert_eq!((next.origin(), next.path()), (here.origin(), here.path()));
                prop_assert!(next.username().is_empty() && next.password().is_none() && next.fragment().is_none());
                prop_assert!(next.as_str().len() <= 3 * input.len() + here.as_str().len());
                // A link that is followed can be written down and read again.
                let written = format!("<{next}>; rel=\"next\"");
                headers.insert(LINK, http::HeaderValue::from_str(&written).unwrap());
                prop_assert_eq!(next_of(&here, &headers), Ok(Some(next)));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "links", &catamaran_fuzz::mutated(&samples), property);
    }
}
