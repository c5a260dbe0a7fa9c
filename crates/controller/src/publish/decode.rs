//! A mirror as the API server sends it, read without what nobody here asks for.
//!
//! Who wrote which of its fields takes ten times as much memory as everything else in a mirror once it is decoded: a tree of maps
//! for each writer. It is skipped where it is read, so that it is never there, not even while a list of many mirrors is decoded.
//! The API server keeps it where a write does not name it.

use std::borrow::Cow;
use std::fmt;

use catamaran_api::mirror::RegistryMirror;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The annotation in which `kubectl apply` keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A mirror; one that can't be decoded must not disturb the others.
#[derive(Clone, Debug)]
pub struct Mirror(pub(crate) Result<RegistryMirror, InvalidObject>);

impl Mirror {
    /// The mirror, or why it can't be decoded.
    ///
    /// # Errors
    /// The decoder's words, for an object that is not what its definition says.
    pub fn decoded(&self) -> Result<&RegistryMirror, &str> {
        self.0.as_ref().map_err(|invalid| invalid.error.as_str())
    }
}

impl<'de> Deserialize<'de> for Mirror {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mirror, D::Error> {
        let object = Value::Object(deserializer.deserialize_map(Object)?);
        let mirror = RegistryMirror::deserialize(&object);
        let refused = |error: serde_json::Error| {
            let metadata = ObjectMeta::deserialize(&object["metadata"]).map_err(D::Error::custom)?;
            let error = error.to_string();
            Ok(InvalidObject { error, metadata })
        };
        mirror
            .map_or_else(|error| refused(error).map(Err), |mirror| Ok(Ok(mirror)))
            .map(Mirror)
    }
}

impl Resource for Mirror {
    type DynamicType = ();
    type Scope = <RegistryMirror as Resource>::Scope;

    fn kind(kind: &()) -> Cow<'_, str> {
        RegistryMirror::kind(kind)
    }

    fn group(kind: &()) -> Cow<'_, str> {
        RegistryMirror::group(kind)
    }

    fn version(kind: &()) -> Cow<'_, str> {
        RegistryMirror::version(kind)
    }

    fn plural(kind: &()) -> Cow<'_, str> {
        RegistryMirror::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, Resource::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, Resource::meta_mut)
    }
}

/// Reads an object with what is kept of its metadata.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<String, Value>, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = if key == "metadata" {
                entries.next_value::<Metadata>()?.0
            } else {
                entries.next_value()?
            };
            object.insert(key, value);
        }
        Ok(object)
    }
}

/// What is kept of an object's metadata.
struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_map(MetadataFields)
    }
}

struct MetadataFields;

impl<'de> Visitor<'de> for MetadataFields {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata of an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Metadata, A::Error> {
        let mut metadata = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == "managedFields" {
                entries.next_value::<IgnoredAny>()?;
            } else {
                metadata.insert(key, entries.next_value()?);
            }
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        Ok(Metadata(Value::Object(metadata)))
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;
    use crate::publish::testserver;

    fn applied() -> Value {
        let mut mirror = testserver::mirror("apps", "Fallback", 2);
        mirror["metadata"]["annotations"] = json!({LAST_APPLIED: "{}", "example.com/team": "a"});
        mirror["metadata"]["managedFields"] = json!([{
            "manager": "kubectl", "operation": "Apply", "apiVersion": "catamaran.dev/v1alpha1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:primary": {}}},
        }]);
        mirror
    }

    #[test]
    fn mirror_is_read_as_its_type_reads_it_but_for_who_wrote_its_fields() {
        let sent = applied();
        let read: Mirror = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(read.name_any(), "apps");
        let read = read.0.unwrap();
        let mut whole: RegistryMirror = serde_json::from_str(&sent.to_string()).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        whole.annotations_mut().remove(LAST_APPLIED);
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            serde_json::to_value(&whole).unwrap()
        );
        assert_eq!(read.annotations()["example.com/team"], "a");
    }

    #[test]
    fn mirror_that_can_not_be_decoded_keeps_its_metadata() {
        let mut sent = applied();
        sent["spec"]["parity"] = json!({"interval": {}});
        let read: Mirror = serde_json::from_str(&sent.to_string()).unwrap();
        assert_eq!(read.uid().as_deref(), sent["metadata"]["uid"].as_str());
        assert_eq!(read.meta().managed_fields, None);
        let whole = serde_json::from_value::<RegistryMirror>(sent).unwrap_err();
        assert_eq!(read.0.unwrap_err().error, whole.to_string());
        assert!(serde_json::from_str::<Mirror>("{}").is_err(), "it is no object");
        assert!(serde_json::from_str::<Mirror>("[]").is_err());
    }
}
