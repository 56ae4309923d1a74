//! Spans as OTLP's `ExportTraceServiceRequest` in its JSON encoding (opentelemetry-proto: ids as
//! hexadecimal digits, 64-bit numbers as text, enumerations as numbers).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Attribute, Span};

/// `SpanKind`: a request that is served, and a call that is made.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `Status.code`.
const ERROR: u8 = 2;

/// One request for all of `spans`.
pub(super) fn request(spans: &[Span]) -> Vec<u8> {
    let scope = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    let service = attribute("service.name", &Attribute::Text(env!("CARGO_PKG_NAME").to_owned()));
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [service] },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
    .to_string()
    .into_bytes()
}

fn span(span: &Span) -> Value {
    let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    json!({
        "traceId": format!("{:032x}", span.place.trace),
        "spanId": format!("{:016x}", span.place.span),
        "parentSpanId": span.place.parent.map_or(String::new(), |parent| format!("{parent:016x}")),
        "name": span.name,
        "kind": if span.is_copy { CLIENT } else { SERVER },
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.start + span.duration),
        "attributes": attributes,
        "status": if span.failed { json!({ "code": ERROR }) } else { json!({}) },
    })
}

fn attribute(key: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Number(number) => json!({ "intValue": number.to_string() }),
        Attribute::Flag(flag) => json!({ "boolValue": flag }),
    };
    json!({ "key": key, "value": value })
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
