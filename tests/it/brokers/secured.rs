//! TLS to a broker: certificates of every kind.

use rcgen::{CertificateParams, date_time_ymd};

use super::VERSIONS;
use super::scene::{Scene, folder};
use crate::lossless::{Mosquitto, free_port};
use crate::tls::{Authority, params};

/// A broker with this certificate on a listener of its own, and a gateway that goes there.
async fn start(
    authority: &Authority,
    certificate: &CertificateParams,
    is_self_signed: bool,
    broker_lines: &str,
    uplink: &str,
) -> Scene {
    authority.issue("broker", certificate, is_self_signed);
    let file = |name: &str| authority.file(name).display().to_string();
    let port = free_port();
    let lines = format!(
        "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\ncafile {}\n{broker_lines}",
        file("broker.pem"),
        file("broker.key"),
        file("ca.pem")
    );
    let folder = folder();
    let broker = Mosquitto::start_with(folder.path(), &lines).await;
    let uplink = format!("broker = \"mqtts://localhost:{port}\"\nca_file = \"{}\"\n{uplink}", file("ca.pem"));
    Scene::start(folder, broker, &uplink).await
}

#[tokio::test]
async fn a_broker_with_a_sound_certificate_is_told_over_both_versions() {
    let authority = Authority::new();
    for version in VERSIONS {
        let uplink = format!("protocol = \"{version}\"");
        let mut scene = start(&authority, &params(&["localhost"]), false, "", &uplink).await;
        scene.delivers().await;
        assert_eq!(scene.stop().await, Some(0));
        scene.until("it is dead", |scene| scene.count("NDEATH") > 0).await;
        let end = if version == "5" { "closed its connection" } else { "disconnected" };
        assert!(scene.broker_log().contains(&format!("Client e/n {end}.")), "{}", scene.broker_log());
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_with_the_reason() {
    let mut expired = params(&["localhost"]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut future = params(&["localhost"]);
    future.not_before = date_time_ymd(4000, 1, 1);
    for (certificate, is_self_signed, expected) in [
        (&expired, false, "the broker's certificate is refused: it expired "),
        (&future, false, "days: is this machine's clock right?"),
        (&params(&["elsewhere"]), false, "it is for DnsName(\"elsewhere\"), not for localhost"),
        (&params(&["localhost"]), true, "its issuer is unknown, or it is signed by itself: `ca_file`"),
    ] {
        let authority = Authority::new();
        let mut scene = start(&authority, certificate, is_self_signed, "", "").await;
        scene.said(expected).await;
        assert_eq!(scene.count("NBIRTH"), 0);
    }
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_gets_it_and_says_so_without() {
    let authority = Authority::new();
    authority.issue("gateway", &params(&["gateway"]), false);
    authority.issue("stranger", &params(&["gateway"]), true);
    let own = |name: &str| {
        let file = |kind: &str| authority.file(&format!("{name}.{kind}")).display().to_string();
        format!("cert_file = \"{}\"\nkey_file = \"{}\"\n", file("pem"), file("key"))
    };
    let wanted = "require_certificate true\n";
    for version in VERSIONS {
        let uplink = format!("protocol = \"{version}\"\n{}", own("gateway"));
        let mut scene = start(&authority, &params(&["localhost"]), false, wanted, &uplink).await;
        scene.delivers().await;
    }
    for (uplink, expected) in [
        (String::new(), "it wants a certificate"),
        (own("stranger"), "it does not know the issuer of our `cert_file`"),
    ] {
        let mut scene = start(&authority, &params(&["localhost"]), false, wanted, &uplink).await;
        scene.said(expected).await;
        assert_eq!(scene.count("NBIRTH"), 0);
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_apart() {
    let folder = folder();
    let broker = Mosquitto::start_with(folder.path(), "").await;
    let authority = Authority::new();
    let ca_file = authority.file("ca.pem");
    let uplink = format!(
        "broker = \"mqtts://localhost:{}\"\nca_file = \"{}\"",
        broker.address.port(),
        ca_file.display()
    );
    let mut scene = Scene::start(folder, broker, &uplink).await;
    scene.said("no connection to the broker").await;
    assert!(scene.log().contains("TLS"), "{}", scene.log());
}
