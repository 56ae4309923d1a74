//! The copy in a trace: a child of the request's span, marked as a mirror's.
//!
//! A copy that came with the request's own `traceparent` would be a second answer to one call; with a
//! span of its own it is a call beside it. `tracestate` says so, and which span it is a copy of
//! (W3C Trace Context, 3.3). A request without a trace gets none.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::loop_guard::hexadecimal;
use crate::limits;

pub(crate) static PARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) static STATE: HeaderName = HeaderName::from_static("tracestate");
/// Our member of `tracestate`; what follows is the span that the copy is one of.
const MEMBER: &[u8] = b"mirrorgate=copy-of:";
/// `version-trace-parent-flags`: where the parent's 16 digits stand, and the length of all of it.
pub(crate) const SPAN: std::ops::Range<usize> = 36..52;
pub(crate) const LENGTH: usize = 55;

/// What [`PARENT`] and [`STATE`] are in a copy whose span is `span`; `None` leaves them as they are.
pub(super) fn child(headers: &HeaderMap, span: u64) -> Option<[HeaderValue; 2]> {
    let mut text = known(headers)?;
    let known = text;
    let mut original = [0; 16];
    if let (Some(digits), Some(place)) = (known.get(SPAN), text.get_mut(SPAN)) {
        original.copy_from_slice(digits);
        place.copy_from_slice(&hexadecimal(span));
    }
    // The version that this was written by.
    if let Some(version) = text.get_mut(..2) {
        version.copy_from_slice(b"00");
    }
    let state = HeaderValue::from_bytes(&state(headers, &original)).ok()?;
    Some([HeaderValue::from_bytes(&text).ok()?, state])
}

/// The one `traceparent` that there is, as far as this version has it.
pub(crate) fn known(headers: &HeaderMap) -> Option<[u8; LENGTH]> {
    let mut parents = headers.get_all(&PARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    // A later version may be longer; its first part is as this one's (4.3).
    let known = parent.as_bytes().get(..LENGTH).filter(|text| is_parent(text))?;
    known.try_into().ok()
}

fn is_parent(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    }) && !text.starts_with(b"ff")
}

/// Ours first, then the others' as they came: the latest stands leftmost.
fn state(headers: &HeaderMap, original: &[u8]) -> Vec<u8> {
    let mut state = [MEMBER, original].concat();
    let members =
        headers.get_all(&STATE).iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    let others =
        members.map(<[u8]>::trim_ascii).filter(|one| !one.is_empty() && !one.starts_with(b"mirrorgate="));
    for other in others.take(limits::TRACE_STATE_MEMBERS - 1) {
        state.push(b',');
        state.extend_from_slice(other);
    }
    state
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn after(fields: &[(&'static str, &str)]) -> (Option<String>, Option<String>) {
        let mut headers = headers(fields);
        if let Some([parent, state]) = child(&headers, 0x0123_4567_89ab_cdef) {
            headers.insert(&PARENT, parent);
            headers.insert(&STATE, state);
        }
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text(&PARENT), text(&STATE))
    }

    #[test]
    fn a_copy_is_a_child_that_says_whose() {
        let child = "00-0af7651916cd43dd8448eb211c80319c-0123456789abcdef-01".to_owned();
        assert_eq!(
            after(&[("traceparent", GIVEN)]),
            (Some(child.clone()), Some("mirrorgate=copy-of:b7ad6b7169203331".to_owned()))
        );
        let state = "mirrorgate=copy-of:b7ad6b7169203331,a=1,b=2,c=3".to_owned();
        let fields =
            [("traceparent", GIVEN), ("tracestate", "a=1, b=2"), ("tracestate", "mirrorgate=copy-of:x ,c=3")];
        assert_eq!(after(&fields), (Some(child.clone()), Some(state)));
        let later = format!("cc{}-more", &GIVEN[2..]);
        assert_eq!(after(&[("traceparent", &later)]).0, Some(child));
    }

    #[test]
    fn what_is_no_trace_goes_on_as_it_is() {
        assert_eq!(after(&[]), (None, None));
        let upper = GIVEN.to_uppercase();
        let forbidden = format!("ff{}", &GIVEN[2..]);
        for wrong in ["", "00-1-2-3", &upper, &forbidden, &GIVEN[..54]] {
            let fields = [("traceparent", wrong), ("tracestate", "a=1")];
            assert_eq!(after(&fields), (Some(wrong.to_owned()), Some("a=1".to_owned())), "{wrong}");
        }
        let twice = [("traceparent", GIVEN), ("traceparent", GIVEN)];
        assert_eq!(after(&twice).0.as_deref(), Some(GIVEN));
    }

    #[test]
    fn a_full_state_loses_its_oldest_member() {
        let full: Vec<String> = (0..32).map(|n| format!("m{n}={n}")).collect();
        let state = after(&[("traceparent", GIVEN), ("tracestate", &full.join(","))]).1.unwrap();
        assert_eq!(state.split(',').count(), 32);
        assert!(state.ends_with("m30=30"));
    }
}
