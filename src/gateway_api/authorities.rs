//! Certificate authorities that a Gateway or a BackendTLSPolicy names: `ca.crt` of a ConfigMap, which the
//! specification asks for, or of a Secret.
//!
//! A Secret has to be of the type that certificates have, as those are that cert-manager makes: of no other is
//! anything asked for in a cluster, so that secrets of other programs never come into this one.

use super::resources::{Key, Resources};
use super::translate::secret_text;
use crate::tls::{PemSource, roots};

/// The type of Secrets that are read.
pub(super) const SECRET_TYPE: &str = "kubernetes.io/tls";

/// The entry of either kind.
pub(super) const ENTRY: &str = "ca.crt";

/// What holds authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    ConfigMap,
    Secret,
}

impl Holder {
    /// That of `kind` in `group`.
    pub(super) fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("", "ConfigMap") => Some(Self::ConfigMap),
            ("", "Secret") => Some(Self::Secret),
            _ => None,
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The certificates in `key`, or why there are none.
    pub(super) fn certificates(self, resources: &Resources, key: &Key) -> Result<String, String> {
        let text = match self {
            Self::ConfigMap => {
                let map = resources.config_maps.get(key);
                map.and_then(|map| map.data.as_ref()?.get(ENTRY).cloned())
            }
            Self::Secret => {
                let secret = resources.secrets.get(key);
                let typed = secret.is_some_and(|secret| secret.type_.as_deref() == Some(SECRET_TYPE));
                secret_text(resources, key, ENTRY).filter(|_| typed)
            }
        };
        let usable = |text: &String| roots(&PemSource::Text(text.as_str().into())).is_ok();
        text.filter(usable).ok_or_else(|| match self {
            Self::ConfigMap => format!("ConfigMap {key} has no certificates in {ENTRY}"),
            Self::Secret => format!("Secret {key} is not of type {SECRET_TYPE} with certificates in {ENTRY}"),
        })
    }
}
