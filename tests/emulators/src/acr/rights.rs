//! Who may do what to which repository.

use serde_json::{Value, json};

/// Actions on repositories, by pattern: `*`, `prefix/*` or a whole name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(String, Vec<String>)>);

impl Rights {
    /// None at all.
    pub fn none() -> Rights {
        Rights::default()
    }

    /// `AcrPull`, or `Container Registry Repository Reader` of an ABAC registry: pull and list.
    pub fn reader(pattern: &str) -> Rights {
        Rights::none().and(pattern, &["pull", "metadata_read"])
    }

    /// `AcrPush`, or `Container Registry Repository Contributor`: everything but deletion.
    pub fn writer(pattern: &str) -> Rights {
        let all = ["pull", "push", "metadata_read", "metadata_write"];
        Rights::none().and(pattern, &all)
    }

    /// These as well.
    #[must_use]
    pub fn and(mut self, pattern: &str, actions: &[&str]) -> Rights {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        self.0.push((pattern.to_owned(), actions));
        self
    }

    /// Whether an action is allowed.
    pub fn allows(&self, repository: &str, action: &str) -> bool {
        let fits = |pattern: &str| {
            pattern == "*"
                || pattern == repository
                || pattern
                    .strip_suffix('*')
                    .is_some_and(|prefix| prefix.ends_with('/') && repository.starts_with(prefix))
        };
        self.0
            .iter()
            .any(|(pattern, actions)| fits(pattern) && actions.iter().any(|allowed| allowed == action))
    }
}

/// What a scope asks for: `repository:{name}:{actions}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) actions: Vec<String>,
}

impl Scope {
    /// Scopes of one or more values, each of which may hold several, apart by a space.
    pub(super) fn parse(values: &[String]) -> Vec<Scope> {
        let words = values.iter().flat_map(|value| value.split(' '));
        words
            .filter_map(|word| {
                let (repository, actions) = word.strip_prefix("repository:")?.rsplit_once(':')?;
                Some(Scope {
                    repository: repository.to_owned(),
                    actions: actions.split(',').map(str::to_owned).collect(),
                })
            })
            .collect()
    }

    /// The `access` claim of what is granted of it; a wildcard is a scope of its own, and nothing in an ABAC registry.
    pub(super) fn granted(&self, rights: &Rights, abac: bool) -> Value {
        let all = ["pull", "push", "delete", "metadata_read", "metadata_write"].map(str::to_owned);
        let asked = if self.actions == ["*"] {
            all.to_vec()
        } else {
            self.actions.clone()
        };
        let ignored = abac && self.repository == "*";
        let actions: Vec<String> = asked
            .into_iter()
            .filter(|action| !ignored && rights.allows(&self.repository, action))
            .collect();
        json!({"Type": "repository", "Name": self.repository, "Actions": actions})
    }
}

/// Whether the `access` claim of a token allows an action.
pub(super) fn claims_allow(claims: &Value, repository: &str, action: &str) -> bool {
    let access = claims["access"].as_array().into_iter().flatten();
    access.into_iter().any(|entry| {
        let named = entry["Name"] == repository || entry["Name"] == "*";
        let actions = entry["Actions"].as_array();
        named && actions.is_some_and(|actions| actions.iter().any(|allowed| allowed == action))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_by_name_prefix_or_for_everything() {
        let rights = Rights::reader("team/*").and("web", &["pull"]);
        let cases = [
            ("team/a", "pull", true),
            ("team/a/b", "metadata_read", true),
            ("team", "pull", false),
            ("teams/a", "pull", false),
            ("web", "pull", true),
            ("web", "metadata_read", false),
            ("team/a", "push", false),
        ];
        for (repository, action, expected) in cases {
            assert_eq!(rights.allows(repository, action), expected, "{repository} {action}");
        }
    }

    #[test]
    fn a_wildcard_scope_is_silently_ignored_by_an_abac_registry() {
        let scopes = Scope::parse(&["repository:*:* repository:a/b:pull,push".to_owned()]);
        let rights = Rights::reader("*");
        let granted = |abac| {
            let access: Vec<_> = scopes.iter().map(|scope| scope.granted(&rights, abac)).collect();
            json!({"access": access})
        };
        assert!(claims_allow(&granted(false), "x", "metadata_read"));
        assert!(!claims_allow(&granted(true), "x", "metadata_read"));
        assert!(claims_allow(&granted(true), "a/b", "pull"));
        assert!(!claims_allow(&granted(true), "a/b", "push"));
    }
}
