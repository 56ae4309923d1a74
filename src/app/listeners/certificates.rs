//! Follows the files of a listener's TLS for as long as it accepts, and tells until when they are good.

use std::sync::Arc;

use futures_util::future::select_all;

use crate::file_watch::{FileWatch, Watched};
use crate::limits;
use crate::proxy::Gateway;
use crate::proxy::accept::Listener;
use crate::tls::MaterialError;

/// Reads the files again when one of them changes, until the listener closes.
pub(super) async fn follow(files: FileWatch, listener: Arc<Listener>, gateway: Arc<Gateway>) {
    let Some(terminator) = &listener.tls else { return };
    let watched: Vec<Watched> = terminator.files().into_iter().map(|path| files.file(path)).collect();
    let metrics = &gateway.metrics().gateway;
    let mut closed = listener.closed.subscribe();
    let mut told: Vec<MaterialError> = Vec::new();
    loop {
        let expiries = terminator.expiries().into_iter().map(|expiry| (expiry.name, expiry.not_after));
        metrics.certificates(&listener.name, expiries);
        for file in &watched {
            // Where it cannot be watched it is looked at now and then, below.
            let _unwatched = file.refresh();
        }
        let changes = watched.iter().map(|file| Box::pin(file.changed()));
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = tokio::time::sleep(limits::FILE_RESYNC) => {}
            _ = async { select_all(changes).await }, if !watched.is_empty() => {}
        }
        for file in &watched {
            file.take();
        }
        let errors = terminator.reload();
        if errors != told {
            for error in &errors {
                tracing::error!(listener = %listener.name, "{error}; the old certificate stays");
            }
            told = errors;
        }
    }
}
