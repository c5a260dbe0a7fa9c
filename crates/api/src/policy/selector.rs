//! Label selectors, as the API server parses them.

use catamaran_core::selector::{Operator, Requirement, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::checks::PolicyError;

pub(super) fn selector(selector: &LabelSelector, field: &str) -> Result<Selector, PolicyError> {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| {
        Ok(Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        })
    });
    let expressions = selector.match_expressions.iter().flatten().enumerate();
    let expressions =
        expressions.map(|(index, expression)| requirement(expression, &format!("{field}.matchExpressions[{index}]")));
    let mut requirements = labels.chain(expressions).collect::<Result<Vec<_>, _>>()?;
    // They stay as long as the mirror.
    requirements.shrink_to_fit();
    Ok(Selector { requirements })
}

fn requirement(expression: &LabelSelectorRequirement, field: &str) -> Result<Requirement, PolicyError> {
    let error = |name: &str, message: String| Err(PolicyError::new(format!("{field}.{name}"), message));
    let values = expression.values.clone().unwrap_or_default();
    let operator = match (expression.operator.as_str(), values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        (operator @ ("In" | "NotIn"), true) => return error("values", format!("must not be empty with {operator}")),
        (operator @ ("Exists" | "DoesNotExist"), false) => {
            return error("values", format!("must be empty with {operator}"));
        }
        (operator, _) => {
            return error(
                "operator",
                format!("must be In, NotIn, Exists or DoesNotExist, not {operator:?}"),
            );
        }
    };
    Ok(Requirement {
        key: expression.key.clone(),
        operator,
    })
}
