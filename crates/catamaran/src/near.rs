//! Names that somebody may have meant.

/// The most that are suggested.
const MOST: usize = 3;
/// Longer names are compared by their beginnings only.
const LONGEST: usize = 256;

/// The closest of these names, the closest first: those that a few keystrokes lead to.
pub fn near<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let allowed = (typed.chars().count() / 4).max(2);
    let mut found: Vec<_> = names
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, name)| *distance <= allowed || is_part(typed, name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name).take(MOST).collect()
}

/// `; did you mean 'a' or 'b'?`, or nothing.
pub fn suggestion<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted: Vec<String> = near(typed, names).iter().map(|name| format!("'{name}'")).collect();
    if quoted.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", quoted.join(" or "))
    }
}

/// A workload's name for that of one of its pods, or the other way round.
fn is_part(typed: &str, name: &str) -> bool {
    let begins = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
    begins(name, typed) || begins(typed, name)
}

/// How many characters must be added, removed or replaced to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, of_a) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, of_b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(of_a != *of_b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_keystrokes() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("aps", "apps", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn close_names_are_suggested_and_others_are_not() {
        let names = ["apps", "images", "apps-eu", "x"];
        assert_eq!(near("aps", names), ["apps"]);
        assert_eq!(near("apps-e", names), ["apps-eu", "apps"]);
        assert_eq!(suggestion("aps", names), "; did you mean 'apps'?");
        assert_eq!(suggestion("something", names), "");
        assert_eq!(near("web", ["web-7d9c-x2x4q"]), ["web-7d9c-x2x4q"]);
    }
}
