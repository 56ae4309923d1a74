//! What a GatewayClass says that it supports: the conformance suite runs the tests of these.

/// Features by the suite's names, sorted as the API wants them.
pub(super) const FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// The rows of the documentation's table: a kind, and its supported features without the kind.
    fn documented() -> Vec<String> {
        let page = include_str!("../../../../docs/kubernetes.md");
        let table = page.split("| | supported | not |\n|---|---|---|\n").nth(1).unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let mut names: Vec<_> = rows
            .flat_map(|row| {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                let (kind, supported) = (cells[1].to_owned(), cells[2].to_owned());
                let name = move |feature: &str| match feature {
                    "core" => kind.clone(),
                    "ListenerSet" => feature.to_owned(),
                    _ => format!("{kind}{feature}"),
                };
                supported.split(", ").map(name).collect::<Vec<_>>()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_told_is_what_is_documented() {
        assert!(FEATURES.is_sorted());
        assert_eq!(FEATURES, documented());
    }
}
