use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use opd_http::{Client, Settings};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{ask, quick};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Answers every connection with `7`, over TLS.
fn serve() -> SocketAddr {
    let certificates = CertificateDer::pem_file_iter(data("server.pem")).unwrap();
    let certificates: Vec<_> = certificates.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut tls = StreamOwned::new(connection, stream.unwrap());
            if tls.read(&mut [0; 4096]).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n7";
                let _ = tls.write_all(answer).and_then(|()| tls.flush());
            }
        }
    });
    address
}

#[test]
fn https_trusts_what_it_is_told_to_trust() {
    let url = format!("https://localhost:{}", serve().port());
    let trusting = Settings { ca_file: Some(data("authority.pem")), ..quick() };
    let client = Client::new(&[&url], trusting).unwrap();
    assert_eq!(ask(&client, 0).unwrap().value, 7);

    let retry = opd_http::Retry { patience: std::time::Duration::ZERO, ..quick().retry };
    let client = Client::new(&[&url], Settings { retry, ..quick() }).unwrap();
    let said = ask(&client, 0).unwrap_err().to_string();
    assert!(said.contains("certificate"), "{said}");

    let nowhere = Settings { ca_file: Some("/nowhere.pem".into()), ..quick() };
    let said = Client::new(&[&url], nowhere).unwrap_err().to_string();
    assert!(said.contains("/nowhere.pem"), "{said}");
}
