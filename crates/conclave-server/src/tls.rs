//! TLS at the edge: 1.3 only, one provider, certificates from files or self-signed.
//!
//! A self-signed certificate protects nothing by itself: clients pin the server key and check that
//! it signed this very TLS session (the exporter is part of the handshake transcript).

use crate::identity::{DataDir, IdentityError, read_secret, write_new};
use crate::origin::Origin;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

const CERT_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing or holds something else.
    #[error("{} holds no usable PEM data", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file with a secret cannot be used.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// The self-signed certificate could not be made.
    #[error("a self-signed certificate cannot be made")]
    SelfSigned(#[from] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("the certificate cannot be used")]
    Certificate(#[from] rustls::Error),
}

/// Reads certificate chain and key from PEM files.
pub(crate) fn from_files(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(cert))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    acceptor(chain, key)
}

/// Loads the self-signed certificate of a data directory, or makes one for these origins. Without a
/// directory a fresh one is made.
pub(crate) fn self_signed(
    dir: Option<&DataDir>,
    origins: &[Origin],
) -> Result<TlsAcceptor, TlsError> {
    let Some(dir) = dir else {
        let (cert, key) = generate(origins)?;
        return from_pem(cert.as_bytes(), key.as_bytes(), Path::new(CERT_FILE));
    };
    let (cert_path, key_path) = (dir.path().join(CERT_FILE), dir.path().join(KEY_FILE));
    if let (Some(cert), Some(key)) = (read_secret(&cert_path)?, read_secret(&key_path)?) {
        return from_pem(&cert, &key, &cert_path);
    }
    let (cert, key) = generate(origins)?;
    for (path, text) in [(&key_path, key.as_str()), (&cert_path, cert.as_str())] {
        match std::fs::remove_file(path) {
            Ok(()) | Err(_) => write_new(path, text.as_bytes())?,
        }
    }
    from_pem(cert.as_bytes(), key.as_bytes(), &cert_path)
}

fn generate(origins: &[Origin]) -> Result<(String, zeroize::Zeroizing<String>), rcgen::Error> {
    let names: Vec<String> = origins
        .iter()
        .map(|origin| origin.host().trim_matches(['[', ']']).to_owned())
        .collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = zeroize::Zeroizing::new(made.signing_key.serialize_pem());
    Ok((made.cert.pem(), key))
}

fn from_pem(cert: &[u8], key: &[u8], path: &Path) -> Result<TlsAcceptor, TlsError> {
    let pem = |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    acceptor(chain, PrivateKeyDer::from_pem_slice(key).map_err(pem)?)
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Connections last for hours: tickets would cost memory and save nothing.
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
