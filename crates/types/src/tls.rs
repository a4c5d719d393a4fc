//! TLS provider of the process.

use rustls::crypto::{CryptoProvider, ring};

/// Installs ring as the process's TLS provider, unless one is installed. Without one reqwest panics when a client is
/// built, so every crate that builds one calls this first.
pub fn ensure_provider() {
    if CryptoProvider::get_default().is_none() {
        // Fails if another thread was first, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
