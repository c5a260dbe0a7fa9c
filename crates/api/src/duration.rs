//! Durations as people write them in a resource: `5m`, `1h30m`, `1.5s`.

use std::time::Duration;

/// Digits of a fraction that matter: 3,600 seconds with twelve of them still count in nanoseconds.
const FRACTION_DIGITS: usize = 12;

/// Parses one or more decimal numbers, each with a unit of `ms`, `s`, `m` or `h`, and adds them up.
///
/// This is Flux's subset of Go's `time.ParseDuration`. `None` for anything else and for sums beyond 2^63 nanoseconds
/// (292 years), which Go refuses too.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest)?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after)?,
            None => ("", after),
        };
        let (unit, after) = unit(after)?;
        total = total.checked_add(nanoseconds(whole, fraction, unit)?)?;
        rest = after;
    }
    let total = i64::try_from(total).ok().filter(|_| !text.is_empty())?;
    Some(Duration::from_nanos(total.unsigned_abs()))
}

/// Splits off one or more digits.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Splits off a unit, as nanoseconds.
fn unit(text: &str) -> Option<(u128, &str)> {
    const UNITS: [(&str, u128); 4] = [
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS
        .iter()
        .find_map(|(name, length)| text.strip_prefix(name).map(|rest| (*length, rest)))
}

fn nanoseconds(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let whole = whole.parse::<u64>().ok().map(u128::from)?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(fraction.parse::<u128>().ok()? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        let cases = [
            ("0s", Duration::ZERO),
            ("5m", Duration::from_mins(5)),
            ("24h", Duration::from_hours(24)),
            ("250ms", Duration::from_millis(250)),
            ("1h30m", Duration::from_mins(90)),
            ("1.5h", Duration::from_mins(90)),
            ("10.5s4m", Duration::from_millis(250_500)),
            ("1.004s", Duration::from_millis(1004)),
            ("0.3333333333333333333h", Duration::from_nanos(1_199_999_999_998)),
            ("007s", Duration::from_secs(7)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "5", "m", "5 m", "-5m", "+5m", "5d", ".5s", "5.s", "1e3s", "5m ", "5mm", "5m3", "٣s", "µs", "5us",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_sum_beyond_go_s_range_is_refused() {
        assert!(parse("2562047h47m16s").is_some());
        for text in [
            "2562047h47m17s",
            "99999999999999999999h",
            "9999999999999999999h",
            "9223372037s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
