//! The children as the API server has them, as documents by kind and name: what apply compares with.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Any kind of child: namespaced, typed.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Kind and name.
pub type Key = (String, String);

/// Children by kind and name.
#[derive(Debug, Default)]
pub struct Live(BTreeMap<Key, Value>);

/// Kind and name of a child.
pub fn key<K: Child>(child: &K) -> Key {
    (K::kind(&()).into_owned(), child.name_any())
}

impl Live {
    /// Adds children; `managedFields` is half of an object and nothing here reads it.
    pub fn extend<K: Child>(&mut self, children: &[K]) {
        for child in children {
            let mut child = child.clone();
            child.meta_mut().managed_fields = None;
            if let Ok(document) = serde_json::to_value(&child) {
                self.0.insert(key(&child), document);
            }
        }
    }

    pub fn append(&mut self, mut other: Live) {
        self.0.append(&mut other.0);
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.0.get(key)
    }

    /// Children of this kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let ours = self.0.iter().filter(move |((of, _), _)| of == kind);
        ours.map(|((_, name), document)| (name.as_str(), document))
    }
}
