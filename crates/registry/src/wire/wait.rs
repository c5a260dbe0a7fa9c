//! How long a registry asks us to wait.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// No registry makes us wait longer than this, whatever it says.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The wait that an answer asks for, at most [`LONGEST_WAIT`].
///
/// `Retry-After` may be seconds or an HTTP date (RFC 9110, 10.2.3); a date is taken relative to the answer's own `Date`, so
/// that neither clock needs to be right. GHCR puts a Go duration into the message instead: `retry-after: 1.16676ms`.
/// GitHub's REST interface names the second at which a used-up limit begins anew, `X-RateLimit-Reset`.
/// Negative and unreadable values count as absent.
pub(crate) fn asked_for(headers: &HeaderMap, message: &str) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header
        .and_then(|text| seconds(text.trim()).or_else(|| until(text.trim(), headers)))
        .or_else(|| in_message(message))
        .or_else(|| reset(headers))
        .map(|wait| wait.min(LONGEST_WAIT))
}

fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are still "too long", not "absent".
    Some(text.parse().map_or(LONGEST_WAIT, Duration::from_secs))
}

fn until(text: &str, headers: &HeaderMap) -> Option<Duration> {
    let now = date(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default())
}

fn reset(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    if number("x-ratelimit-remaining")? != 0 {
        return None;
    }
    let now = date(headers.get(DATE)?.to_str().ok()?)?.as_second();
    Some(Duration::from_secs(
        u64::try_from(number("x-ratelimit-reset")?.saturating_sub(now)).unwrap_or(0),
    ))
}

fn date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(text)
        .ok()
}

fn in_message(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let (_, rest) = lower.split_once("retry-after:")?;
    go_duration(rest.trim_start().split([',', ' ', '"', ';']).next()?)
}

/// A duration as Go prints it, such as `1h2m3.5s` or `1.16676ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (amount, tail) = rest.split_at(number);
        let unit = tail
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let amount: f64 = amount.parse().ok()?;
        total = total.saturating_add(Duration::try_from_secs_f64(amount * scale).unwrap_or(LONGEST_WAIT));
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(retry_after: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 12:00:00 GMT"));
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_wait_is_read_from_the_header_in_each_of_its_forms() {
        let cases = [
            (None, None),
            (Some(""), None),
            (Some("7"), Some(7)),
            (Some(" 7 "), Some(7)),
            (Some("0"), Some(0)),
            (Some("-7"), None),
            (Some("1e3"), None),
            (Some("soon"), None),
            (Some("86400"), Some(300)),
            (Some("99999999999999999999999999"), Some(300)),
            (Some("Fri, 20 Nov 2026 12:00:30 GMT"), Some(30)),
            (Some("Fri, 20 Nov 2026 11:00:00 GMT"), Some(0)),
            (Some("Fri, 20 Nov 2036 12:00:00 GMT"), Some(300)),
        ];
        for (header, expected) in cases {
            assert_eq!(
                asked_for(&headers(header), ""),
                expected.map(Duration::from_secs),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_date_without_the_answers_own_date_counts_as_absent() {
        let mut headers = headers(Some("Fri, 20 Nov 2026 12:00:30 GMT"));
        headers.remove(DATE);
        assert_eq!(asked_for(&headers, ""), None);
    }

    #[test]
    fn a_used_up_hour_of_github_lasts_until_it_says_so() {
        let cases = [
            (Some("0"), Some("1795176060"), Some(60)),
            (Some("0"), Some("1795175000"), Some(0)),
            (Some("0"), Some("9223372036854775807"), Some(300)),
            (Some("0"), Some("-9223372036854775808"), Some(0)),
            (Some("0"), Some("soon"), None),
            (Some("7"), Some("1795176060"), None),
            (None, Some("1795176060"), None),
        ];
        for (remaining, at, expected) in cases {
            let mut headers = headers(None);
            for (name, value) in [("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", at)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let found = asked_for(&headers, "");
            assert_eq!(found, expected.map(Duration::from_secs), "{remaining:?} {at:?}");
        }
    }

    #[test]
    fn the_go_duration_in_a_github_message_is_understood() {
        let cases = [
            (
                "retry-after: 1.16676ms, allowed: 44000/minute",
                Some(Duration::from_nanos(1_166_760)),
            ),
            (
                "retry-after: 500µs, allowed: 44000/minute",
                Some(Duration::from_micros(500)),
            ),
            ("Retry-After: 1m2.5s", Some(Duration::from_millis(62_500))),
            ("retry-after: 9999h", Some(LONGEST_WAIT)),
            ("retry-after: -3s", None),
            ("retry-after: 3", None),
            ("retry-after: 1.2.3s", None),
            ("retry-after:", None),
            ("too many requests", None),
        ];
        for (message, expected) in cases {
            assert_eq!(asked_for(&HeaderMap::new(), message), expected, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_registry_makes_us_wait_longer_than_five_minutes(header in "[ -~]{0,40}", message in ".{0,80}", go in "-?[0-9.]{0,30}(h|m|s|ms|us|ns)") {
            let mut headers = HeaderMap::new();
            for text in [&message, &format!("retry-after: {go}"), &format!("Retry-After:{header}")] {
                prop_assert!(asked_for(&headers, text).is_none_or(|wait| wait <= LONGEST_WAIT));
            }
            headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 12:00:00 GMT"));
            headers.insert(RETRY_AFTER, HeaderValue::from_str(&header).unwrap());
            prop_assert!(asked_for(&headers, &message).is_none_or(|wait| wait <= LONGEST_WAIT));
        }
    }
}
