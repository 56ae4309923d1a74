//! One document becomes one object, or it is said why not.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::gateway_api;
use crate::gateway_api::resources::{Key, Object};

/// Reads one object; `None` if its kind does not matter here.
pub fn object(document: Value) -> Result<Option<Object>, String> {
    Ok(read(document)?.map(|read| read.object))
}

/// An object as it was read.
pub(super) struct Read {
    pub(super) object: Object,
    pub(super) kind: String,
    pub(super) key: Key,
    /// A line for each field of it that is not known. A cluster does not take such a field; here it is ignored,
    /// which must not happen in silence: it may be a typing mistake.
    pub(super) unknown: Vec<String>,
}

/// Reads one object, and says what it is; `None` if its kind does not matter here.
pub(super) fn read(mut document: Value) -> Result<Option<Read>, String> {
    let text = |key| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.is_empty() || kind.is_empty() {
        return Err("it has no apiVersion or no kind".to_owned());
    }
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(format!("{kind}: it has no metadata.name"));
    }
    let name = format!("{kind} {name}");
    let everywhere = matches!(kind.as_str(), "GatewayClass" | "Namespace");
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
        && !everywhere
    {
        metadata.entry("namespace").or_insert_with(|| "default".into());
    }
    // What a cluster said of it once is not part of what is asked for.
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
    }
    let spec = document.get("spec").cloned();
    let of_metadata = |field: &str| {
        let text = document.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let key = Key::new(of_metadata("namespace"), of_metadata("name"));
    let (object, known) = match (group.as_str(), kind.as_str()) {
        (gateway_api::GROUP, "GatewayClass") => typed(document, &name, Object::Class)?,
        (gateway_api::GROUP, "Gateway") => typed(document, &name, Object::Gateway)?,
        (gateway_api::GROUP, "ListenerSet") => typed(document, &name, Object::ListenerSet)?,
        (gateway_api::GROUP, "HTTPRoute") => typed(document, &name, Object::HttpRoute)?,
        (gateway_api::GROUP, "GRPCRoute") => typed(document, &name, Object::GrpcRoute)?,
        (gateway_api::GROUP, "TLSRoute") => typed(document, &name, Object::TlsRoute)?,
        (gateway_api::GROUP, "ReferenceGrant") => typed(document, &name, Object::Grant)?,
        (gateway_api::GROUP, "BackendTLSPolicy") => typed(document, &name, Object::TlsPolicy)?,
        ("mirrorgate.dev", "MirrorPolicy") => typed(document, &name, Object::MirrorPolicy)?,
        ("", "Service") => typed(document, &name, Object::Service)?,
        ("", "Secret") => typed(document, &name, Object::Secret)?,
        ("", "ConfigMap") => typed(document, &name, Object::ConfigMap)?,
        ("", "Namespace") => typed(document, &name, Object::Namespace)?,
        ("discovery.k8s.io", "EndpointSlice") => typed(document, &name, Object::Slice)?,
        _ => return Ok(None),
    };
    let mut unknown = Vec::new();
    if let (Some(spec), Some(known)) = (&spec, known.get("spec")) {
        find_unknown(spec, known, "spec", &mut unknown);
    }
    // Kinds of the core have fields that are newer than this program and of no concern to it.
    unknown.retain(|_| matches!(group.as_str(), gateway_api::GROUP | "mirrorgate.dev"));
    let told = unknown.into_iter().map(|field| {
        format!("{name}: the field {field} is not known and ignored; hint: look for a typing mistake")
    });
    let unknown = told.collect();
    Ok(Some(Read { object, kind, key, unknown }))
}

/// The object, and what it is as a document again: all of it that is known.
fn typed<K: DeserializeOwned + Serialize>(
    document: Value,
    name: &str,
    object: fn(K) -> Object,
) -> Result<(Object, Value), String> {
    let read: K = serde_json::from_value(document).map_err(|error| format!("{name}: {error}"))?;
    let known = serde_json::to_value(&read).map_err(|error| format!("{name}: {error}"))?;
    Ok((object(read), known))
}

/// Adds the paths of what is in `given` and not in `known`.
fn find_unknown(given: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => find_unknown(value, known, &path, found),
                    // Nothing is said of it.
                    None if value.is_null() => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (number, (value, known)) in given.iter().zip(known).enumerate() {
                find_unknown(value, known, &format!("{path}[{number}]"), found);
            }
        }
        _ => {}
    }
}
