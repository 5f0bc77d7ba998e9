//! A server, and those who may call it and who may not.

use std::{fs, time::Duration};

use kaigi_proto::v1::{WebhookChangedRequest, events_client::EventsClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Code, service::Routes, transport::server::TcpIncoming};

use super::*;
use crate::Channels;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A directory with certificates of `authority`.
fn certificates(authority: &Authority, change: impl Fn(&mut CertificateParams)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec![CLUSTER_NAME.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let contents = [authority.pem(), params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem()];
    for (file, content) in TLS_FILES.iter().zip(contents) {
        fs::write(dir.path().join(file), content).unwrap();
    }
    dir
}

fn read(dir: &TempDir) -> Result<Trust, TlsError> {
    TrustArgs { cluster_secret: String::new(), cluster_tls: Some(dir.path().to_owned()) }.read()
}

fn of(authority: &Authority) -> Trust {
    read(&certificates(authority, |_| ())).unwrap()
}

/// A server without services; where it is.
async fn serve(trust: &Trust) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = trust.server().unwrap().add_routes(Routes::default());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address.to_string()
}

/// How a call of something that is not served ends: [`Code::Unimplemented`] if the caller was let in.
async fn call(trust: Trust, endpoint: &str) -> Code {
    let channel = Channels::new(trust).to(endpoint).unwrap();
    let call = async { EventsClient::new(channel).webhook_changed(WebhookChangedRequest::default()).await };
    let answer = tokio::time::timeout(Duration::from_secs(20), call).await.expect("answered in time");
    answer.unwrap_err().code()
}

#[tokio::test]
async fn processes_with_certificates_of_one_authority_call_each_other() {
    let authority = authority();
    let address = serve(&of(&authority)).await;
    for scheme in ["https", "http"] {
        // What an endpoint begins with does not decide whether a cluster with certificates encrypts.
        assert_eq!(call(of(&authority), &format!("{scheme}://{address}")).await, Code::Unimplemented);
    }
}

#[tokio::test]
async fn who_has_no_certificate_of_the_cluster_is_not_let_in() {
    let address = serve(&of(&authority())).await;
    let stranger = authority();
    assert_eq!(call(of(&stranger), &format!("https://{address}")).await, Code::Unavailable);
    assert_ne!(call(Trust::default(), &format!("http://{address}")).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_server_without_a_certificate_is_not_called() {
    let address = serve(&Trust::default()).await;
    assert_eq!(call(of(&authority()), &format!("http://{address}")).await, Code::Unavailable);
}

#[tokio::test]
async fn a_server_with_another_name_is_not_called() {
    let authority = authority();
    // Some other server that has a certificate of the same authority: `read` refuses such, but others don't read as we do.
    let other = certificates(&authority, |params| {
        params.subject_alt_names =
            CertificateParams::new(vec!["other".to_owned()]).unwrap().subject_alt_names;
    });
    let file = |name: &str| fs::read(other.path().join(name)).unwrap();
    let [ca, certificate, key] = TLS_FILES.map(file);
    let identity = Identity::from_pem(certificate, key);
    let tls = Tls { authority: Certificate::from_pem(ca), identity, expires: SystemTime::now() };
    let address = serve(&Trust { secret: ClusterSecret::default(), tls: Some(Arc::new(tls)) }).await;
    assert_eq!(call(of(&authority), &format!("https://{address}")).await, Code::Unavailable);
}

#[test]
fn certificates_that_cannot_serve_are_refused_at_the_start() {
    let authority = authority();
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(read(&none), Err(TlsError::Read { .. })));

    let over = certificates(&authority, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert!(matches!(read(&over), Err(TlsError::NotValid(_))));

    let other = certificates(&authority, |params| params.subject_alt_names.clear());
    assert!(matches!(read(&other), Err(TlsError::OtherName(_))));

    let garbled = certificates(&authority, |_| ());
    fs::write(garbled.path().join("tls.crt"), "no certificate").unwrap();
    assert!(matches!(read(&garbled), Err(TlsError::NoCertificate(_))));

    let mixed = certificates(&authority, |_| ());
    fs::write(mixed.path().join("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(read(&mixed), Err(TlsError::Unusable { .. })));
}

#[test]
fn without_a_directory_nothing_is_encrypted() {
    let empty = TrustArgs { cluster_secret: "secret".into(), cluster_tls: Some("".into()) };
    for args in [TrustArgs::default(), empty] {
        assert_eq!(args.read().unwrap().scheme(), "http");
    }
}
