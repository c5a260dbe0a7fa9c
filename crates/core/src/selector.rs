//! Label selectors, as `metav1.LabelSelector` defines them.

use std::collections::BTreeMap;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A conjunction of requirements; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// All of them must hold.
    pub requirements: Vec<Requirement>,
}

/// One requirement on the label `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's name.
    pub key: String,
    /// What must be true of its value.
    pub operator: Operator,
}

/// What a requirement asks of a label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label exists with one of these values.
    In(Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(Vec<String>),
    /// The label exists.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether `labels` fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether labels fulfil every requirement, by a function that looks one up by its name.
    pub fn matches_with<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = label(&requirement.key);
            let is_one_of = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
            match &requirement.operator {
                Operator::In(values) => is_one_of(values),
                Operator::NotIn(values) => !is_one_of(values),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn each_operator_selects_as_the_api_says() {
        let team = |operator| Selector {
            requirements: vec![Requirement {
                key: "team".into(),
                operator,
            }],
        };
        let cases = [
            (Operator::In(vec!["a".into()]), true, false, false),
            (Operator::NotIn(vec!["a".into()]), false, true, true),
            (Operator::Exists, true, true, false),
            (Operator::DoesNotExist, false, false, true),
        ];
        for (operator, on_a, on_b, without) in cases {
            let selector = team(operator.clone());
            assert_eq!(selector.matches(&labels(&[("team", "a")])), on_a, "{operator:?} on a");
            assert_eq!(selector.matches(&labels(&[("team", "b")])), on_b, "{operator:?} on b");
            assert_eq!(
                selector.matches(&labels(&[])),
                without,
                "{operator:?} without the label"
            );
        }
    }

    #[test]
    fn selector_matches_labels_by_lookup() {
        let pairs = [("team", "a"), ("tier", "web")];
        let lookup = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let selector = |value: &str| Selector {
            requirements: vec![Requirement {
                key: "team".into(),
                operator: Operator::In(vec![value.into()]),
            }],
        };
        assert!(selector("a").matches_with(lookup));
        assert!(!selector("b").matches_with(lookup));
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(Selector::default().matches(&labels(&[])));
        assert!(Selector::default().matches(&labels(&[("any", "thing")])));
    }
}
