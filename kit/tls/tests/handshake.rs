//! Real handshakes in memory between the settings this crate makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kit_clock::{Clock as _, SystemClock, Wall};
use kit_tls::{
    Authority, Identity, TlsError, Validity, client_config, client_config_pinned,
    client_config_unverified, roots, server_config,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn now() -> Wall {
    SystemClock::start().wall()
}

fn valid() -> Validity {
    Validity::starting(now(), YEAR)
}

fn authority() -> Authority {
    Authority::generate("test cluster", valid()).unwrap()
}

/// The error of a handshake between the two, as the client sees it.
fn handshake(client: Arc<ClientConfig>, server: &Identity, name: &str) -> Result<(), String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server_config(server).unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut there).unwrap();
        }
        feed(&there, |bytes| server.read_tls(bytes));
        // What the server thinks of a client that refused is not asked.
        drop(server.process_new_packets());
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        feed(&back, |bytes| client.read_tls(bytes));
        client.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn feed(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    while !bytes.is_empty() {
        read(&mut bytes).unwrap();
    }
}

#[test]
fn a_client_with_the_root_takes_the_names_of_the_certificate_only() {
    let authority = authority();
    let server =
        authority.issue(&["apps.example", "*.apps.example", "192.0.2.7"], valid()).unwrap();
    let client = client_config(roots(authority.cert_pem()).unwrap());
    for name in ["apps.example", "git.apps.example", "192.0.2.7"] {
        assert_eq!(handshake(client.clone(), &server, name), Ok(()), "{name}");
    }
    for name in ["a.b.apps.example", "other.example", "192.0.2.8"] {
        let error = handshake(client.clone(), &server, name).unwrap_err();
        assert!(error.contains("not valid for name"), "{name}: {error}");
    }
}

#[test]
fn another_authority_is_not_trusted() {
    let server = authority().issue(&["apps.example"], valid()).unwrap();
    let client = client_config(roots(authority().cert_pem()).unwrap());
    assert!(handshake(client, &server, "apps.example").is_err());
}

#[test]
fn an_expired_certificate_is_not_taken_except_by_its_pin() {
    let authority = authority();
    let long_ago = Validity::starting(Wall::from_epoch(YEAR), YEAR);
    let server = authority.issue(&["apps.example"], long_ago).unwrap();
    let client = client_config(roots(authority.cert_pem()).unwrap());
    let error = handshake(client, &server, "apps.example").unwrap_err();
    assert!(error.contains("expired"), "{error}");
    assert_eq!(handshake(client_config_pinned(server.pin()), &server, "any.name"), Ok(()));
}

#[test]
fn a_pin_takes_one_certificate_alone() {
    let authority = authority();
    let server = authority.issue(&["apps.example"], valid()).unwrap();
    let other = authority.issue(&["apps.example"], valid()).unwrap();
    assert_eq!(handshake(client_config_pinned(server.pin()), &server, "apps.example"), Ok(()));
    let error = handshake(client_config_pinned(server.pin()), &other, "apps.example").unwrap_err();
    assert!(error.contains("does not match the provided pin"), "{error}");
    assert_eq!(handshake(client_config_unverified(), &other, "apps.example"), Ok(()));
}

#[test]
fn a_stolen_certificate_without_its_key_passes_no_pin() {
    // What a thief of the public certificate can show: that certificate, signed for by another key.
    let authority = authority();
    let victim = authority.issue(&["apps.example"], valid()).unwrap();
    let thief = authority.issue(&["apps.example"], valid()).unwrap();
    let mixed = rustls::sign::CertifiedKey::new(
        victim.certified_key().cert.clone(),
        thief.certified_key().key.clone(),
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(mixed)));
    let name = ServerName::try_from("apps.example").unwrap();
    let mut client = ClientConnection::new(client_config_pinned(victim.pin()), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    client.write_tls(&mut there).unwrap();
    feed(&there, |bytes| server.read_tls(bytes));
    server.process_new_packets().unwrap();
    while server.wants_write() {
        server.write_tls(&mut back).unwrap();
    }
    feed(&back, |bytes| client.read_tls(bytes));
    let error = client.process_new_packets().unwrap_err().to_string();
    assert!(error.contains("BadSignature"), "{error}");
}

#[test]
fn an_authority_reads_back_and_goes_on_issuing() {
    let first = authority();
    let again = Authority::from_pem(first.cert_pem(), &first.key_pem()).unwrap();
    let server = again.issue(&["apps.example"], valid()).unwrap();
    let client = client_config(roots(first.cert_pem()).unwrap());
    assert_eq!(handshake(client, &server, "apps.example"), Ok(()));
    let read = Identity::from_pem(server.chain_pem(), server.key_pem()).unwrap();
    assert_eq!(read.pin(), server.pin());
}

#[test]
fn wrong_texts_say_what_is_wrong() {
    let authority = authority();
    let a = authority.issue(&["a.example"], valid()).unwrap();
    let b = authority.issue(&["b.example"], valid()).unwrap();
    let damaged = a.chain_pem().replacen("MII", "§§§", 1);
    for (chain, key, want) in [
        (a.chain_pem(), b.key_pem(), "the private key does not belong to the certificate"),
        (
            "",
            a.key_pem(),
            "no certificate found: PEM with a line -----BEGIN CERTIFICATE----- is needed",
        ),
        (
            a.chain_pem(),
            "",
            "no private key found: PEM with a line -----BEGIN PRIVATE KEY----- is needed",
        ),
        (&damaged, a.key_pem(), "certificate is not valid PEM"),
    ] {
        assert_eq!(Identity::from_pem(chain, key).unwrap_err().to_string(), want);
    }
    for name in ["", "a b", "*.*.x", "x..y", "*"] {
        let error = authority.issue(&[name], valid()).unwrap_err();
        assert!(matches!(error, TlsError::Name { .. }), "{name}: {error}");
    }
    assert!(!format!("{a:?} {authority:?}").contains("PRIVATE"), "keys stay out of logs");
}
