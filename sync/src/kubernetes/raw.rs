//! An object as its API server writes it, of which only the name is looked at.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Any JSON is one: what can't be read is found when it is translated, and is then the problem of that
/// object alone, not of the list that it is in.
#[derive(Clone)]
pub(crate) struct Raw {
    text: Box<RawValue>,
    /// Namespace, name and resource version only.
    metadata: ObjectMeta,
}

impl Raw {
    /// The whole object.
    pub(crate) fn json(&self) -> &str {
        self.text.get()
    }

    /// Empty for kinds that have none.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Names the object; Secrets and the like are never printed.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

#[derive(Deserialize, Default)]
struct Head {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata } = serde_json::from_str(text.get()).unwrap_or_default();
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { text, metadata })
    }
}

impl kube::Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;

    use super::*;

    /// API servers write a watch's lines with the type first, which lets the object through unread.
    #[test]
    fn any_object_gets_through_watches_and_lists() {
        let object =
            r#"{"metadata": {"name": "a", "namespace": "n", "resourceVersion": "7"}, "spec": [1,  2]}"#;
        let line = format!(r#"{{"type":"ADDED","object":{object}}}"#);
        let WatchEvent::Added(raw) = serde_json::from_str::<WatchEvent<Raw>>(&line).unwrap() else {
            panic!("no ADDED")
        };
        assert_eq!((raw.json(), raw.namespace(), raw.name()), (object, "n", "a"));
        let list = format!(
            r#"{{"kind": "List", "apiVersion": "v1", "metadata": {{}}, "items": [{object}, 7, {{"metadata": 3}}]}}"#
        );
        let list: kube::core::ObjectList<Raw> = serde_json::from_str(&list).unwrap();
        let texts: Vec<_> = list.items.iter().map(Raw::json).collect();
        assert_eq!(texts, [object, "7", r#"{"metadata": 3}"#]);
    }
}
