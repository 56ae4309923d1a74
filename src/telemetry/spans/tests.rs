#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traces(threshold: Option<u64>, room: usize) -> (Traces, mpsc::Receiver<Span>, Arc<Metrics>) {
    let (queue, spans) = mpsc::channel(room);
    let metrics = Arc::new(Metrics::new(1));
    (Traces::to(queue, threshold, &metrics).0, spans, metrics)
}

fn begun(traces: &Traces, given: Option<&str>) -> (Option<Place>, Option<String>) {
    let mut headers = HeaderMap::new();
    if let Some(given) = given {
        headers.insert("traceparent", given.parse().unwrap());
    }
    let mut next = 0;
    let place = traces.begin(&mut headers, || {
        next += 1;
        next
    });
    (place, headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned()))
}

#[test]
fn a_sampled_request_goes_on_as_our_child() {
    let (traces, ..) = traces(Some(0), 1);
    let (place, goes_on) = begun(&traces, Some(GIVEN));
    let place = place.unwrap();
    assert_eq!((place.span, place.parent), (1, Some(0xb7ad_6b71_6920_3331)));
    assert_eq!(goes_on.unwrap(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01");
    let copy = place.child(7);
    assert_eq!((copy.trace, copy.span, copy.parent), (place.trace, 7, Some(1)));
}

#[test]
fn what_is_not_sampled_or_no_trace_goes_on_as_it_is() {
    let (all, ..) = traces(None, 1);
    let (none, ..) = traces(Some(0), 1);
    for given in ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "nonsense"] {
        assert_eq!(begun(&all, Some(given)), (None, Some(given.to_owned())));
    }
    assert_eq!(begun(&none, None), (None, None));
    assert_eq!(begun(&Traces::off(), Some(GIVEN)), (None, Some(GIVEN.to_owned())));
    let (place, goes_on) = begun(&all, None);
    assert_eq!(place.unwrap().parent, None);
    assert_eq!(goes_on.unwrap(), "00-00000000000000020000000000000003-0000000000000004-01");
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted() {
    let (traces, mut spans, metrics) = traces(None, 2);
    let place = begun(&traces, None).0.unwrap();
    let span = Span {
        place,
        is_copy: false,
        name: "GET all".into(),
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        attributes: Vec::new(),
        failed: false,
    };
    (0..5).for_each(|_| traces.export(span.clone()));
    assert_eq!(metrics.gateway.spans_dropped.load(Ordering::Relaxed), 3);
    assert_eq!(spans.try_recv().unwrap(), span);
}
