//! Fields of a rule that mean nothing here.

use gateway_api::experimental::httproutes as http_types;

use super::duration;
use crate::gateway_api::ignored::Ignored;
use crate::limits;

pub(super) fn http_ignored(raw: &http_types::HttpRouteRules) -> Vec<Ignored> {
    let session = raw.session_persistence.as_ref().map(|_| sessions());
    session.into_iter().chain(raw.retry.iter().flat_map(retry)).collect()
}

pub(super) fn sessions() -> Ignored {
    Ignored::new("sessionPersistence", "…", "requests go to any endpoint, leave it out")
}

fn retry(raw: &http_types::HttpRouteRulesRetry) -> Vec<Ignored> {
    let most = limits::RETRIES_MOST;
    let attempts =
        raw.attempts.filter(|attempts| !(0..=i64::from(most)).contains(attempts)).map(|attempts| {
            let made = if attempts < 0 { 1 } else { most };
            Ignored::new(
                "retry.attempts",
                attempts.to_string(),
                format!("write 0 to {most}, now {made} are made"),
            )
        });
    let backoff = raw.backoff.as_ref().filter(|text| duration(text).is_none());
    let backoff = backoff.map(|text| Ignored::new("retry.backoff", text, "write 100ms, or 1s"));
    let codes = raw.codes.iter().flatten().filter(|code| !(400..=599).contains(*code));
    let codes = codes.map(|code| Ignored::new("retry.codes", code.to_string(), "write 400 to 599"));
    attempts.into_iter().chain(backoff).chain(codes).collect()
}
