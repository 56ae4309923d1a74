//! Routes as they are written.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde_json::json;

use crate::config::address::Reference;
use crate::config::decode::{List, Located, Table, WordOr, record};
use crate::config::http_values::{
    GrpcName, HostName, Name, OversizeWord, RateWord, SampleWord, SchemeWord, StripWord, Text, UrlPath,
};
use crate::config::units::{Percent, Ratio, Size, Whole};
use crate::limits;
use crate::routing::matches::{HostPattern, Pattern};

record! {
    /// Hosts and matches, and where their requests go: one of `backend`, `backends` and `redirect`.
    pub(in crate::config) struct Route {
        /// What metrics and the admin API call it; route-1, route-2 and so on by position if absent.
        name: Option<Located<Name>>,
        /// Names of the listeners that it serves; all if absent.
        listeners: Option<List<Located<Name>>>,
        /// Hosts that it serves: names, `*.example.com` for all below one, `*` for any; any if absent.
        hosts: Option<List<Located<Option<HostPattern>>>>,
        /// Alternatives, one of which must hold; every request if absent.
        matches: Option<List<Match>>,
        /// The backend that its requests go to.
        backend: Option<Located<Reference>>,
        /// Several backends that share its requests by weight.
        backends: Option<List<WeightedBackend>>,
        /// Answers with a redirect instead.
        redirect: Option<Redirect>,
        /// What is changed in requests before they leave, and in responses before they return.
        filters: Option<Filters>,
        /// Deadlines.
        timeouts: Option<RouteTimeouts>,
        /// What it takes.
        limits: Option<RouteLimits>,
        /// Who gets copies of its requests.
        mirrors: Option<List<Mirror>>,
    }
}

record! {
    /// A backend and its share.
    pub(in crate::config) struct WeightedBackend shorthand backend {
        /// The name of an entry in `backends`, or a URL.
        backend: Located<Reference>,
        /// Share relative to the others; 1 if absent, 0 takes none.
        weight: Option<Located<Whole<0, 1_000_000>>>,
    }
}

record! {
    /// Conditions that must all hold.
    pub(in crate::config) struct Match {
        /// On the path.
        path: Option<PathChoice>,
        /// A gRPC service, or one of its methods, instead of a path.
        grpc: Option<GrpcMatch>,
        /// The method.
        method: Option<Located<Method>>,
        /// On header fields, by name.
        headers: Option<Table<ValueChoice>>,
        /// On parameters of the query, by name.
        query: Option<Table<ValueChoice>>,
    }
}

record! {
    /// gRPC calls.
    #[schemars(extend("minProperties" = 1))]
    pub(in crate::config) struct GrpcMatch {
        /// The service with its package, as shop.v1.Orders; any if absent.
        service: Option<Located<GrpcName>>,
        /// The method; any if absent.
        method: Option<Located<GrpcName>>,
    }
}

record! {
    /// One of `exact`, `prefix` and `regex`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(in crate::config) struct PathChoice {
        /// The whole path.
        exact: Option<Located<UrlPath>>,
        /// The first segments, whole ones: /api is the prefix of /api/x and not of /apix.
        prefix: Option<Located<UrlPath>>,
        /// An expression for the whole path.
        regex: Option<Located<Pattern>>,
    }
}

record! {
    /// A text that the value must be, or one of `exact`, `regex` and `present`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(in crate::config) struct ValueChoice shorthand exact {
        /// The whole value.
        exact: Option<Located<Text>>,
        /// An expression for the whole value.
        regex: Option<Located<Pattern>>,
        /// `true`: any value.
        present: Option<Located<bool>>,
    }
}

record! {
    /// What is changed on the way.
    pub(in crate::config) struct Filters {
        /// Edits of the request's head.
        request_headers: Option<HeaderEdits>,
        /// Edits of the response's head.
        response_headers: Option<HeaderEdits>,
        /// A new Host.
        host: Option<Located<HostName>>,
        /// A new path; the query stays.
        path: Option<PathRewrite>,
    }
}

record! {
    /// Edits of a head: `remove` first, then `set`, then `add`.
    pub(in crate::config) struct HeaderEdits {
        /// Replaces every field of that name.
        set: Option<Table<Located<HeaderValue>>>,
        /// Added beside the fields that are there.
        add: Option<Table<Located<HeaderValue>>>,
        /// Taken away.
        remove: Option<List<Located<HeaderName>>>,
    }
}

record! {
    /// One of `prefix` and `full`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(in crate::config) struct PathRewrite {
        /// Replaces the prefix that matched.
        prefix: Option<Located<UrlPath>>,
        /// Replaces the whole path.
        full: Option<Located<UrlPath>>,
    }
}

record! {
    /// Where a redirect leads; what is absent stays as in the request.
    #[schemars(extend("anyOf" = json!(["scheme", "host", "port", "path"].map(|key| json!({ "required": [key] })))))]
    pub(in crate::config) struct Redirect {
        /// `http` or `https`.
        scheme: Option<Located<SchemeWord>>,
        /// The host.
        host: Option<Located<HostName>>,
        /// The port; the scheme's own if only `scheme` is given.
        port: Option<Located<Whole<1, 65_535>>>,
        /// The path.
        path: Option<PathRewrite>,
        /// 301, 302 (the default), 303, 307 or 308.
        #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
        status: Option<Located<Whole<300, 399>>>,
    }
}

record! {
    /// Deadlines; `0s` is none.
    pub(in crate::config) struct RouteTimeouts {
        /// The whole transaction, to the last byte of the response; none if absent.
        request: Option<Located<Duration>>,
        /// One attempt, up to the head of the response; 60s if absent.
        backend: Option<Located<Duration>>,
    }
}

record! {
    /// What a route takes of clients.
    pub(in crate::config) struct RouteLimits {
        /// Bytes of a request's body; above it 413. Absent: what `limits` at the top says.
        body: Option<Located<Size>>,
        /// Requests a time; above it 429 with Retry-After.
        rate: Option<Rate>,
    }
}

record! {
    /// So many `requests` `per` a time.
    pub(in crate::config) struct Rate {
        /// How many.
        requests: Located<Whole<1, 1_000_000_000>>,
        /// In what time; 1s if absent.
        per: Option<Located<Duration>>,
        /// Requests that may come at once; `requests` if absent.
        burst: Option<Located<Whole<1, 1_000_000_000>>>,
        /// Whose requests are counted together: everybody's if absent, those of one `client` address,
        /// or those with the same value of a header.
        key: Option<WordOr<Located<RateWord>, RateKey>>,
    }
}

record! {
    /// A header field by which requests are counted together.
    pub(in crate::config) struct RateKey {
        /// Its name.
        header: Located<HeaderName>,
    }
}

record! {
    /// A backend that gets copies.
    #[schemars(extend("not" = json!({ "anyOf": [
        { "required": ["percent", "fraction"] },
        { "required": ["percent", "ramp"] },
        { "required": ["fraction", "ramp"] },
    ] })))]
    pub(in crate::config) struct Mirror shorthand backend {
        /// The name of an entry in `backends`, or a URL.
        backend: Located<Reference>,
        /// How many requests in a hundred are copied; all if absent, 0 is off.
        percent: Option<Located<Percent>>,
        /// The same as a fraction, for shares that are no round percentage.
        fraction: Option<FractionParts>,
        /// A percentage that grows by itself while the mirror does well.
        ramp: Option<Ramp>,
        /// What decides whether a request is copied, so that the same key is always in or always out:
        /// `path`, `client`, or the name of a `header`, `cookie` or parameter of the `query`. A draw
        /// for each request if absent; a request without the key goes by its X-Request-Id.
        sample_by: Option<WordOr<Located<SampleWord>, SampleName>>,
        /// Methods that are copied; all if absent.
        methods: Option<List<Located<Method>>>,
        /// Alternatives, one of which must hold for what the primary gets; every request if absent.
        matches: Option<List<Match>>,
        /// Edits of the copy's head, after the route's.
        headers: Option<HeaderEdits>,
        /// A new Host for the copy.
        host: Option<Located<HostName>>,
        /// A new path for the copy, after the route's; the query stays.
        path: Option<PathRewrite>,
        /// `credentials`: the copy goes without Authorization, Proxy-Authorization and Cookie.
        strip: Option<Located<StripWord>>,
        /// From the end of the request to the end of its copy; 5s if absent.
        timeout: Option<Located<Duration>>,
        /// Declared size of a body above which `on_oversize` says what happens; none if absent.
        max_body: Option<Located<Size>>,
        /// What happens above `max_body`: `skip` makes no copy (the default), `headers_only` copies
        /// the head, `stream` copies all the same.
        on_oversize: Option<Located<OversizeWord>>,
        /// What copies may hold on to.
        budget: Option<Budget>,
        /// The mirror is stopped, until it is told to resume, when it does badly; never if absent.
        stop: Option<Stop>,
    }
}

record! {
    /// One of `header`, `cookie` and `query`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(in crate::config) struct SampleName {
        /// The name of a header field.
        header: Option<Located<HeaderName>>,
        /// The name of a cookie.
        cookie: Option<Located<Text>>,
        /// The name of a parameter of the query.
        query: Option<Located<Text>>,
    }
}

record! {
    /// A share that grows.
    pub(in crate::config) struct Ramp {
        /// Percentages, each greater than the one before.
        steps: List<Located<Percent>>,
        /// How long the mirror does well, by the measure of `stop`, before the next.
        every: Located<Duration>,
    }
}

record! {
    /// When a mirror does badly. Rates are shares, 0 to 1, of the requests that were to be copied.
    pub(in crate::config) struct Stop {
        /// Share of copies that failed, or that were answered 5xx where the primary did not answer so;
        /// 0.5 if absent, 1 is never.
        error_rate: Option<Located<Ratio>>,
        /// Share of copies that a budget skipped or cut; 0.5 if absent, 1 is never.
        drop_rate: Option<Located<Ratio>>,
        /// Over how long; 10s if absent.
        window: Option<Located<Duration>>,
        /// Requests to be copied in that time, below which nothing is concluded; 100 if absent.
        minimum: Option<Located<Whole<1, { u32::MAX }>>>,
    }
}

record! {
    /// `numerator` requests of `denominator`.
    pub(in crate::config) struct FractionParts {
        /// How many.
        numerator: Located<Whole<0, { u32::MAX }>>,
        /// Of how many; 100 if absent.
        denominator: Option<Located<Whole<1, { u32::MAX }>>>,
    }
}

record! {
    /// Bounds of one mirror.
    pub(in crate::config) struct Budget {
        /// Copies in flight at once; 1024 if absent.
        in_flight: Option<Located<Whole<1, { limits::MIRROR_IN_FLIGHT_MOST as u32 }>>>,
        /// How far one copy's body may lag behind the primary's; 1MiB if absent.
        lag: Option<Located<Size>>,
        /// Copies begun per second; no bound if absent.
        rate: Option<Located<Whole<1, { limits::MIRROR_RATE_MOST }>>>,
        /// To connect to an endpoint; 3s if absent.
        connect: Option<Located<Duration>>,
        /// From the end of the request to the head of the answer; only `timeout` if absent.
        first_byte: Option<Located<Duration>>,
    }
}
