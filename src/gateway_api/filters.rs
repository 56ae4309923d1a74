//! What a rule's, or a backend's, filters mean to the data plane.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::model::{CorsFilter, Edits, Filter, MirrorFilter, NewPath, RedirectFilter};
use crate::plan::Fraction;
use crate::routing::cors::Cors;
use crate::routing::filter::{Filters, HeaderEdits, PathRewrite, Redirect};

/// Filters, sorted by what has to be done about them.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    /// Edits.
    pub filters: Filters,
    /// The answer, if there is one.
    pub redirect: Option<Redirect>,
    /// Copies, and of how many requests.
    pub mirrors: Vec<(&'a MirrorFilter, Fraction)>,
    /// Why mirrors are left out: one that cannot be done costs no request anything.
    pub left_out: Vec<String>,
    /// A filter that cannot be done; requests must not pass without it.
    pub impossible: Option<String>,
}

/// Sorts `filters`. Whatever is wrong with one is said in `impossible`.
pub fn sort(filters: &[Filter]) -> Sorted<'_> {
    let mut sorted = Sorted::default();
    for filter in filters {
        if let Err(problem) = add(&mut sorted, filter) {
            sorted.impossible.get_or_insert(problem);
        }
    }
    sorted
}

fn add<'a>(sorted: &mut Sorted<'a>, filter: &'a Filter) -> Result<(), String> {
    let filters = &mut sorted.filters;
    match filter {
        Filter::RequestHeaders(raw) => filters.request_headers = edits(raw)?,
        Filter::ResponseHeaders(raw) => filters.response_headers = edits(raw)?,
        Filter::Mirror(mirror) => match fraction(mirror) {
            Ok(fraction) => sorted.mirrors.push((mirror, fraction)),
            Err(why) => {
                sorted.left_out.push(format!("the mirror to {} is left out: {why}", mirror.backend.name));
            }
        },
        Filter::Redirect(raw) => sorted.redirect = Some(redirect(raw)?),
        Filter::Rewrite(raw) => {
            filters.host = match &raw.hostname {
                Some(host) => Some(HeaderValue::from_str(host).map_err(|_| format!("{host:?} is no host"))?),
                None => None,
            };
            filters.path = raw.path.as_ref().map(path).transpose()?;
        }
        Filter::Cors(raw) => filters.cors = Some(Arc::new(cors(raw))),
        Filter::Unsupported { what, .. } => return Err(format!("the filter {what} is not supported")),
    }
    Ok(())
}

/// Reads edits of header fields.
pub fn edits(raw: &Edits) -> Result<HeaderEdits, String> {
    let name =
        |name: &str| HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header field"));
    let pairs = |list: &[(String, String)]| -> Result<Vec<_>, String> {
        list.iter()
            .map(|(field, value)| {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the value of {field} cannot stand in a header"))?;
                Ok((name(field)?, value))
            })
            .collect()
    };
    let remove: Result<Vec<_>, String> = raw.remove.iter().map(|field| name(field)).collect();
    let edits = HeaderEdits { set: pairs(&raw.set)?, add: pairs(&raw.add)?, remove: remove? };
    match edits.check().into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(edits),
    }
}

fn path(raw: &NewPath) -> Result<PathRewrite, String> {
    let rewrite = match raw {
        NewPath::Full(path) => PathRewrite::Full(path.clone()),
        NewPath::Prefix(path) => PathRewrite::Prefix(path.clone()),
    };
    match rewrite.check() {
        Some(problem) => Err(problem),
        None => Ok(rewrite),
    }
}

fn redirect(raw: &RedirectFilter) -> Result<Redirect, String> {
    let status = raw.status.unwrap_or(302);
    let known = matches!(status, 301 | 302 | 303 | 307 | 308);
    let status =
        u16::try_from(status).ok().filter(|_| known).and_then(|code| StatusCode::from_u16(code).ok());
    Ok(Redirect {
        scheme: raw.scheme,
        host: raw.hostname.clone(),
        port: raw.port.and_then(|port| u16::try_from(port).ok()),
        path: raw.path.as_ref().map(path).transpose()?,
        status: status.ok_or_else(|| format!("{:?} is not the status of a redirect", raw.status))?,
    })
}

fn cors(raw: &CorsFilter) -> Cors {
    Cors {
        origins: raw.origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        methods: raw.methods.clone(),
        headers: raw.headers.clone(),
        expose: raw.expose.clone(),
        credentials: raw.credentials,
        max_age: raw.max_age.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(5),
    }
}

/// How many requests a mirror filter copies. A cluster takes nothing else; where it is not clear what is meant,
/// nothing is copied.
fn fraction(mirror: &MirrorFilter) -> Result<Fraction, String> {
    let (numerator, denominator) = match (mirror.fraction, mirror.percent) {
        (Some(_), Some(_)) => return Err("it has both percent and fraction; hint: keep one".to_owned()),
        (Some(fraction), None) => fraction,
        (None, Some(percent)) => (percent, 100),
        (None, None) => return Ok(Fraction::ALL),
    };
    match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
            Ok(Fraction { numerator, denominator })
        }
        _ => Err(format!("{numerator} of {denominator} is no part of the requests")),
    }
}
