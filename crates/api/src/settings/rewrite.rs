//! What a user writes about rewriting.

use catamaran_core::policy::IMAGE_COMPARING_OPERATORS;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules::{
    API_GROUP, IMAGE_RULES, KIND, MAX_EXCLUDED_IMAGES, MAX_EXCLUDED_PODS, MAX_EXPRESSIONS, MAX_IMAGE_PATTERN,
    MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_OWNER_KINDS, MAX_VALUES, POD_SELECTOR_RULES, rules,
};

/// How image references of new pods are rewritten.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// Rewrite: images of new pods are changed to the active side. Audit: no image and no pull secret is changed; annotations on pods and
    /// metrics record what would be done. Waiting pods are not re-pointed either.
    pub mode: RewriteModeName,

    /// What happens to a tag or digest that was not yet read on the active side. Rewrite: it is rewritten, and verified immediately. Keep:
    /// it is not rewritten until both sides are known to have it.
    pub unverified_tags: UnverifiedTagsName,

    /// What happens to a tag whose digests differ on the two sides. Keep: it is not rewritten. WhenUnavailable: it is rewritten while the
    /// registry that the pod names is unavailable, so the pod runs other content than its tag names there.
    pub mismatched_tags: MismatchedTagsName,

    /// What happens to pods of other owners than ReplicaSets, StatefulSets, DaemonSets, Jobs and ReplicationControllers. Keep: they are not
    /// rewritten unless ownerKinds lists their owner, because such an owner may compare images and recreate the pod forever. Rewrite: they
    /// are rewritten.
    pub controller_owned_pods: ControllerOwnedPodsName,

    /// Kinds of owners whose pods are rewritten although controllerOwnedPods is Keep, at most 32: those that do not compare the images of
    /// their pods, such as TaskRun of tekton.dev.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_OWNER_KINDS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["apiGroup", "kind"]))]
    pub owner_kinds: Vec<OwnerKindName>,

    /// Images that are never rewritten: at most 32 patterns of at most 255 characters. In a pattern, * stands for any characters, slashes
    /// included, and ? for one character. A pattern must match the whole image, as the pod names it or in its full form: nginx is also
    /// docker.io/library/nginx:latest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EXCLUDED_IMAGES), inner(length(min = 1, max = MAX_IMAGE_PATTERN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = rules(IMAGE_RULES)))]
    pub exclude_images: Vec<String>,

    // An empty list is written, because it is not the default.
    /// Pods that are never rewritten: those that one of these label selectors selects, at most 16. The default excludes pods of operators
    /// that compare images although a built-in controller owns the pod: Zalando's Postgres operator (application: spilo), Kueue
    /// (kueue.x-k8s.io/managed), Aerospike (app: aerospike-cluster) and Longhorn's manager (app: longhorn-manager). A list replaces the
    /// default, so repeat what you need of it; an empty list excludes none.
    #[schemars(schema_with = "pod_selectors")]
    pub exclude_pods: Vec<LabelSelector>,
}

impl Default for Rewrite {
    fn default() -> Rewrite {
        let labels = IMAGE_COMPARING_OPERATORS.iter().map(|(key, value)| LabelSelector {
            match_labels: Some([((*key).to_owned(), (*value).to_owned())].into()),
            match_expressions: None,
        });
        Rewrite {
            mode: RewriteModeName::default(),
            unverified_tags: UnverifiedTagsName::default(),
            mismatched_tags: MismatchedTagsName::default(),
            controller_owned_pods: ControllerOwnedPodsName::default(),
            owner_kinds: Vec::new(),
            exclude_images: Vec::new(),
            exclude_pods: labels.collect(),
        }
    }
}

/// Whether images are changed.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RewriteModeName {
    /// They are.
    #[default]
    Rewrite,
    /// What would be done is recorded.
    Audit,
}

/// What happens to a tag or digest that was not yet read on the active side.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnverifiedTagsName {
    /// It is rewritten.
    #[default]
    Rewrite,
    /// It is not rewritten.
    Keep,
}

/// What happens to a tag whose digests differ.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MismatchedTagsName {
    /// It is not rewritten.
    #[default]
    Keep,
    /// It is rewritten while the registry that the pod names is unavailable.
    WhenUnavailable,
}

/// What happens to pods of custom controllers.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerOwnedPodsName {
    /// They are not rewritten.
    #[default]
    Keep,
    /// They are rewritten.
    Rewrite,
}

/// A kind of object that owns pods, in any version.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerKindName {
    /// The API group without a version: tekton.dev, for example. Empty for the core group.
    #[schemars(length(max = 253), regex(pattern = API_GROUP))]
    pub api_group: String,

    /// The kind: TaskRun, for example.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND))]
    pub kind: String,
}

/// A list of `metav1.LabelSelector` with bounds, which the rules need.
fn pod_selectors(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": "string", "maxLength": MAX_LABEL_VALUE });
    json_schema!({
        "type": "array",
        "maxItems": MAX_EXCLUDED_PODS,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "description": "A label selector: all of matchLabels and matchExpressions must hold.",
            "x-kubernetes-map-type": "atomic",
            "x-kubernetes-validations": rules(POD_SELECTOR_RULES),
            "properties": {
                "matchLabels": {
                    "type": "object",
                    "description": "Labels that the pod has with these values, at most 16.",
                    "maxProperties": MAX_EXPRESSIONS,
                    "additionalProperties": value.clone(),
                },
                "matchExpressions": {
                    "type": "array",
                    "description": "Requirements on the pod's labels, at most 16.",
                    "maxItems": MAX_EXPRESSIONS,
                    "x-kubernetes-list-type": "atomic",
                    "items": {
                        "type": "object",
                        "description": "One requirement.",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": {
                                "type": "string",
                                "description": "The label's name.",
                                "minLength": 1,
                                "maxLength": MAX_LABEL_KEY,
                            },
                            "operator": {
                                "type": "string",
                                "description": "In, NotIn, Exists or DoesNotExist.",
                                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                            },
                            "values": {
                                "type": "array",
                                "description": "The values for In and NotIn, at most 32; none for Exists and DoesNotExist.",
                                "maxItems": MAX_VALUES,
                                "x-kubernetes-list-type": "atomic",
                                "items": value,
                            },
                        },
                    },
                },
            },
        },
    })
}
