//! A certificate that somebody else keeps: the release goes over to it and back, it is renewed by another authority, and it breaks.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, operator};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::release::{rewrites, timed, webhook};
use crate::rollouts::lossless;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a-given-certificate-is-followed-and-not-believed-blindly",
    run: a_given_certificate_is_followed,
}];

/// The Secret of somebody else.
const SECRET: &str = "own-certificate";

fn a_given_certificate_is_followed(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let values = ["certificates.mode=secret", "certificates.secretName=own-certificate"];
    let first = Given::new(2031)?;
    first.apply(case)?;
    let gone_over = lossless(case, "going over to a given certificate", || {
        operator::upgrade(&case.ground.cluster, &[&operator::VALUES[..], &values].concat())?;
        served(case, &first)
    });
    let result = gone_over
        .and_then(|_| renewed_by_another_authority(case))
        .and_then(|second| broken(case, &second));
    // Whatever happened, the next scenario needs the usual ones.
    let back = lossless(case, "and back", || {
        operator::upgrade(&case.ground.cluster, &operator::VALUES)
    });
    case.ground.cluster.kubectl(&[
        "-n",
        operator::NAMESPACE,
        "delete",
        "secret",
        SECRET,
        "--ignore-not-found",
    ])?;
    result.and(back.map(drop))
}

/// The new authority takes the place of the old one at a stroke; both must be trusted until every replica serves the new leaf.
fn renewed_by_another_authority(case: &Case<'_>) -> anyhow::Result<Given> {
    let second = Given::new(2032)?;
    lossless(case, "renewed by another authority", || {
        second.apply(case)?;
        timed(case, "follow", || served(case, &second))
    })?;
    let bundle = STANDARD.decode(webhook(case)?.bundle)?;
    ensure!(
        String::from_utf8_lossy(&bundle).contains(second.authority.trim()),
        "the new authority is not published"
    );
    Ok(second)
}

fn broken(case: &Case<'_>, good: &Given) -> anyhow::Result<()> {
    let half = good.chain[..good.chain.len() / 2].to_owned();
    let broken = Given {
        chain: half,
        ..good.clone()
    };
    broken.apply(case)?;
    timed(case, "raise the alarm", || unusable(case, 1))?;
    served(case, good)?;
    rewrites(case, true)?;
    good.apply(case)?;
    timed(case, "end it", || unusable(case, 0))
}

/// An authority and a leaf of it, as a Secret has them.
#[derive(Clone)]
struct Given {
    authority: String,
    chain: String,
    key: String,
    /// When the leaf expires, which tells it from others.
    expires: i64,
}

impl Given {
    fn new(year: i32) -> anyhow::Result<Self> {
        let mut authority = CertificateParams::default();
        let name = format!("the authority of {year}");
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut leaf = CertificateParams::new([format!("{}.{}.svc", operator::RELEASE, operator::NAMESPACE)])?;
        leaf.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate()?;
        let expires: Timestamp = format!("{year}-01-01T00:00:00Z").parse()?;
        Ok(Self {
            authority: authority.pem(),
            chain: leaf.signed_by(&key, &authority)?.pem(),
            key: key.serialize_pem(),
            expires: expires.as_second(),
        })
    }

    fn apply(&self, case: &Case<'_>) -> anyhow::Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "stringData": {"ca.crt": self.authority, "tls.crt": self.chain, "tls.key": self.key},
        });
        case.ground.apply(operator::NAMESPACE, &secret).map(drop)
    }
}

/// Waits until every replica is ready and serves this leaf.
fn served(case: &Case<'_>, given: &Given) -> anyhow::Result<()> {
    until(case, "catamaran_certificate_expiry_timestamp_seconds", given.expires)?;
    let pods = ["get", "pods", "-l", operator::LABEL, "-o", "json"];
    let pods = case
        .ground
        .cluster
        .kubectl(&[&["-n", operator::NAMESPACE][..], &pods].concat())?;
    let pods: Value = serde_json::from_str(&pods)?;
    for pod in catamaran_e2e::view::items(&pods) {
        ensure!(catamaran_e2e::view::is_ready(&pod), "a replica is not ready");
    }
    Ok(())
}

fn unusable(case: &Case<'_>, wanted: i64) -> anyhow::Result<()> {
    until(case, "catamaran_certificate_unusable", wanted)
}

/// Waits until every replica says this of a gauge.
fn until(case: &Case<'_>, gauge: &str, wanted: i64) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut said = Vec::new();
        for pod in operator::pods(&case.ground.cluster)? {
            said.push(value(case, &pod, gauge)?);
        }
        if said.iter().all(|said| *said == wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{gauge} is {said:?} instead of {wanted}");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "these gauges are whole numbers of seconds, and 0 or 1"
)]
fn value(case: &Case<'_>, pod: &str, gauge: &str) -> anyhow::Result<i64> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics",
        operator::NAMESPACE
    );
    let metrics = case.ground.cluster.kubectl(&["get", "--raw", &path])?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(gauge));
    let number = line.with_context(|| format!("there is no {gauge}"))?.trim();
    let number: f64 = number
        .parse()
        .with_context(|| format!("failed to read {gauge} {number:?}"))?;
    Ok(number as i64)
}
