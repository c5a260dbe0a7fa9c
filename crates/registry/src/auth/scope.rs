//! What a challenge may add to what we ask for (token scopes of the distribution project).

use crate::wire::path;

/// More repositories than this are not asked for because a challenge names them.
const MOST_PULLS: usize = 8;
/// A longer `host:port` before a repository is none.
const LONGEST_HOST: usize = 255;

/// The scopes among these (several in one are separated by spaces) that read a repository, each once and for `pull` alone.
///
/// A registry may call its repository otherwise than we do: behind a proxy that adds a path, or where one repository stands for
/// others. What we may do there is ours to say, so that no challenge has us ask for the right to write, or for another kind of thing.
pub(super) fn pulls<'s>(scopes: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut pulls = Vec::new();
    for name in scopes.flat_map(str::split_ascii_whitespace).filter_map(pulled) {
        let scope = format!("repository:{name}:pull");
        if pulls.len() < MOST_PULLS && !pulls.contains(&scope) {
            pulls.push(scope);
        }
    }
    pulls
}

/// The repository that a scope reads.
fn pulled(scope: &str) -> Option<&str> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let reads = actions.split(',').any(|action| matches!(action, "pull" | "*"));
    (kind == "repository" && reads && is_name(name)).then_some(name)
}

/// A repository, perhaps with the host before it (`[host[:port]/]name`).
fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(':') && is_host(host) => path,
        _ => name,
    };
    path::check_repository(path).is_ok()
}

fn is_host(host: &str) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else {
        return false;
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    host.len() <= LONGEST_HOST && !name.is_empty() && name.bytes().all(word) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pulls_of_repositories_are_added_and_only_to_pull() {
        let cases: [(&str, &[&str]); 17] = [
            ("repository:a/b:pull", &["repository:a/b:pull"]),
            ("repository:a/b:pull,push,delete", &["repository:a/b:pull"]),
            ("repository:a/b:*", &["repository:a/b:pull"]),
            (
                "repository:a:pull repository:b:push,pull",
                &["repository:a:pull", "repository:b:pull"],
            ),
            ("repository:a:pull  repository:a:pull,push", &["repository:a:pull"]),
            ("repository:r.test:5000/a:pull", &["repository:r.test:5000/a:pull"]),
            ("repository:r.test/a:pull", &["repository:r.test/a:pull"]),
            ("repository:a/b:push", &[]),
            ("repository:a/b:metadata_read", &[]),
            ("registry:catalog:*", &[]),
            ("repository(plugin):a:pull", &[]),
            ("repository:a:push:pull", &[]),
            ("repository:a:push,x:pull", &[]),
            ("repository:*:pull", &[]),
            ("repository:../a:pull", &[]),
            ("repository::pull", &[]),
            ("", &[]),
        ];
        for (scope, expected) in cases {
            assert_eq!(pulls([scope].into_iter()), expected, "{scope}");
        }
    }

    #[test]
    fn a_challenge_adds_few_repositories() {
        let many: Vec<_> = (0..100).map(|n| format!("repository:r{n}:pull")).collect();
        assert_eq!(pulls([many.join(" ").as_str()].into_iter()), many[..MOST_PULLS]);
    }
}
