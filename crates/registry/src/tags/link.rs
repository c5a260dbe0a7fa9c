//! From a page to the next (RFC 8288).

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use crate::wire::failure::{Class, Failure};
use crate::wire::reply::Reply;

/// The next page, which must be the same list on the same host (RFC 8288; a foreign one would be a request forged by the
/// registry, with our token in it). Scheme and port are not looked at, and stay ours: behind another server a registry often
/// does not know its own.
pub(crate) fn next_link(reply: &Reply) -> Result<Option<Url>, Failure> {
    next_of(reply.url(), reply.headers()).map_err(|()| {
        let message = format!("{}: its next page is elsewhere, which is not followed", reply.request);
        reply.failure(Class::Misrouted, message)
    })
}

fn next_of(here: &Url, headers: &HeaderMap) -> Result<Option<Url>, ()> {
    let mut values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = values.find_map(|value| link(value, "next")) else {
        return Ok(None);
    };
    let there = here.join(target).map_err(|_| ())?;
    let same = there.host() == here.host()
        && there.path() == here.path()
        && there.username().is_empty()
        && there.password().is_none();
    if !same {
        return Err(());
    }
    let mut next = here.clone();
    next.set_query(there.query());
    Ok(Some(next))
}

/// The target of a relation, such as `rel="next"`, in one `Link` value.
pub(crate) fn link<'v>(value: &'v str, relation: &str) -> Option<&'v str> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let related = parameters.split([';', ',']).any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|rel| rel.eq_ignore_ascii_case(relation))
            })
        });
        if related {
            return Some(target);
        }
        rest = after;
    }
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
            ("</x; rel=next", None),
            ("", None),
            (r#"<>; rel="next""#, Some("")),
        ];
        for (value, expected) in cases {
            assert_eq!(link(value, "next"), expected, "{value}");
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
