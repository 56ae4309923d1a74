use std::sync::Arc;

use mirrorgate::upstream::backend::Backend;
use mirrorgate::upstream::registry::BackendRef;

fn forge(backend: Arc<Backend>) -> BackendRef {
    BackendRef(backend)
}

fn main() {}
