#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ingress;
mod nginx;

use super::*;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: g, namespace: gw }
spec:
  gatewayClassName: mirrorgate
  listeners: [{ name: http, port: 80, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }]
";

/// Imports `text`, as a file of this name.
fn imported(name: &str, text: &str) -> Result<Import, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    import(&path, &Key::new("gw", "g"))
}

fn notes(import: &Import) -> String {
    import.notes.iter().map(|note| format!("{note}\n")).collect()
}

#[test]
fn what_is_no_ingress_is_said() {
    assert!(imported("x.yaml", GATEWAY).unwrap_err().contains("there is no Ingress"));
    assert!(imported("x.conf", "events {}").unwrap_err().contains("no server"));
    assert!(imported("x.conf", "http {").unwrap_err().contains("line 1"));
}
