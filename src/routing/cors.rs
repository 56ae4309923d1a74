//! Cross-origin requests (the Fetch standard's CORS protocol, as Gateway API's CORS filter has it):
//! preflights are answered here, other requests pass and their responses are marked.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, request};

/// Who may ask from other origins, and for what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// `*`, an origin, or one with `*` in its host. Lower case.
    pub origins: Vec<String>,
    /// Names of methods; `*` is any.
    pub methods: Vec<String>,
    /// Names of request fields; `*` is any.
    pub headers: Vec<String>,
    /// Names of response fields; `*` is any.
    pub expose: Vec<String>,
    /// Whether requests may carry credentials.
    pub credentials: bool,
    /// Seconds for which a preflight's answer may be believed.
    pub max_age: u32,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Preflight {
    /// It is answered so.
    Answer(Box<Response<()>>),
    /// It goes on, and its response gets these.
    Pass(Fields),
}

/// Fields of a response.
#[derive(Debug, Default)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// Puts them into `headers`, in place of what the backend said about the same.
    pub fn apply(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            // A response may depend on other fields, too.
            let _full = match name {
                VARY => headers.try_append(name, value).map(|_| ()),
                _ => headers.try_insert(name, value).map(|_| ()),
            };
        }
    }
}

impl Cors {
    /// Answers a preflight; says what is added to the response of any other request.
    pub fn answer(&self, parts: &request::Parts) -> Preflight {
        let origin = parts.headers.get(ORIGIN).filter(|origin| self.allows(origin));
        let asked = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let Some(method) = asked.filter(|_| parts.method == Method::OPTIONS) else {
            return Preflight::Pass(origin.map(|origin| self.fields(origin)).unwrap_or_default());
        };
        let mut response = Response::new(());
        if let Some(origin) = origin {
            let Fields(mut fields) = self.fields(origin);
            let any_header = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            fields.extend(listed(ACCESS_CONTROL_ALLOW_METHODS, &self.methods, Some(method)));
            fields.extend(listed(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, any_header));
            fields.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age)));
            Fields(fields).apply(response.headers_mut());
        }
        Preflight::Answer(Box::new(response))
    }

    /// What preflights and other requests are told alike. The origin is named, never `*`, which
    /// would not do with credentials.
    fn fields(&self, origin: &HeaderValue) -> Fields {
        let mut fields =
            vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()), (VARY, HeaderValue::from_static("origin"))];
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        fields.extend(listed(ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose, None));
        Fields(fields)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        self.origins.iter().any(|pattern| match pattern.split_once('*') {
            None => *pattern == origin,
            Some(("", "")) => true,
            Some((before, after)) => {
                origin.len() > before.len() + after.len()
                    && origin.starts_with(before)
                    && origin.ends_with(after)
            }
        })
    }
}

/// A list as a field; `*` becomes what was asked for, since with credentials a browser takes `*`
/// for a name.
fn listed(
    name: HeaderName,
    list: &[String],
    asked: Option<&HeaderValue>,
) -> Option<(HeaderName, HeaderValue)> {
    let value = match (list.iter().any(|one| one == "*"), asked) {
        (true, Some(asked)) => asked.clone(),
        _ if list.is_empty() => return None,
        _ => HeaderValue::from_str(&list.join(", ")).ok()?,
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use http::Request;

    use super::*;

    fn cors() -> Cors {
        Cors {
            origins: vec!["https://www.foo.com".into(), "https://*.bar.com".into()],
            methods: vec!["GET".into(), "OPTIONS".into()],
            headers: vec!["x-1".into()],
            expose: vec!["x-2".into()],
            credentials: true,
            max_age: 3600,
        }
    }

    fn ask(cors: &Cors, method: Method, origin: &str) -> (bool, HeaderMap) {
        let mut builder = Request::builder().method(method.clone()).header("origin", origin);
        if method == Method::OPTIONS {
            builder = builder.header("access-control-request-method", "PUT");
        }
        match cors.answer(&builder.body(()).unwrap().into_parts().0) {
            Preflight::Answer(response) => (true, response.headers().clone()),
            Preflight::Pass(fields) => {
                let mut headers = HeaderMap::new();
                fields.apply(&mut headers);
                (false, headers)
            }
        }
    }

    #[test]
    fn a_preflight_is_answered() {
        for origin in ["https://www.foo.com", "https://www.bar.com", "https://x.www.bar.com"] {
            let (answered, headers) = ask(&cors(), Method::OPTIONS, origin);
            assert!(answered);
            assert_eq!(headers["access-control-allow-origin"], origin);
            assert_eq!(headers["access-control-allow-methods"], "GET, OPTIONS");
            assert_eq!(headers["access-control-allow-headers"], "x-1");
            assert_eq!(headers["access-control-expose-headers"], "x-2");
            assert_eq!(headers["access-control-max-age"], "3600");
            assert_eq!(headers["access-control-allow-credentials"], "true");
        }
        for origin in ["https://foobar.com", "http://www.foo.com", "https://bar.com", "https://.bar.com"] {
            let (answered, headers) = ask(&cors(), Method::OPTIONS, origin);
            assert!(answered && !headers.contains_key("access-control-allow-origin"), "{origin}");
        }
    }

    #[test]
    fn any_is_what_was_asked_for() {
        let mut cors = cors();
        cors.origins = vec!["*".into()];
        cors.methods = vec!["*".into()];
        cors.credentials = false;
        let (_, headers) = ask(&cors, Method::OPTIONS, "https://a:1234");
        assert_eq!(headers["access-control-allow-origin"], "https://a:1234");
        assert_eq!(headers["access-control-allow-methods"], "PUT");
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn other_requests_pass() {
        let (answered, headers) = ask(&cors(), Method::GET, "https://www.foo.com");
        assert!(!answered);
        assert_eq!(headers["access-control-allow-origin"], "https://www.foo.com");
        assert!(!headers.contains_key("access-control-allow-methods"));
        assert!(ask(&cors(), Method::GET, "https://foobar.com").1.is_empty());
    }
}
