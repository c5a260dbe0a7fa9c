//! Looks that are refused: some registries refuse to show what is not there.

use catamaran_core::policy::Provider;
use catamaran_core::side::Sides;
use catamaran_registry::copy::inspect;
use catamaran_registry::{Class, Copied, CopyError, CopySettings};
use catamaran_scripted_registry::{Fault, What};
use http::Method;

use crate::copying::{FROM, TO, assert_identical, copier, image, pair, settings, writes};
use crate::{GENERIC, client};

#[tokio::test]
async fn target_that_refuses_to_show_what_it_lacks_is_written() {
    for status in [401, 403] {
        let (from, to) = pair().await;
        let digest = from.push(FROM, "1.0", "first");
        for path in ["/manifests/", "/blobs/sha256:", "/tags/list"] {
            to.fault(Fault::on(path, What::status(status)).method(Method::HEAD));
            to.fault(Fault::on(path, What::status(status)).method(Method::GET));
        }
        let copied = copier(&from, &to, settings()).copy(&image("1.0", &digest)).await;
        assert_eq!(copied, Ok(Copied::Written), "{status}");
        to.clear_faults();
        assert_identical(&from, FROM, &to, TO, "1.0");
    }
}

#[tokio::test]
async fn tag_that_must_not_be_looked_at_and_is_listed_is_not_overwritten() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    let theirs = to.push(TO, "1.0", "theirs");
    to.fault(Fault::on("/manifests/1.0", What::status(403)).method(Method::HEAD));
    let error = copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert!(matches!(error, CopyError::Denied(_)), "{error}");
    to.clear_faults();
    let stands = client(to.connection(GENERIC, Provider::Generic))
        .resolve(TO, "1.0")
        .await;
    assert_eq!(stands.unwrap().digest, theirs);
}

#[tokio::test]
async fn write_that_is_refused_after_refused_looks_is_denied() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    to.fault(Fault::on("/v2/", What::error(403, "DENIED", "denied")));
    let error = copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert!(matches!(error, CopyError::Denied(_)), "{error}");
    assert_eq!(writes(&to).len(), 1, "the first write decides");
}

#[tokio::test]
async fn source_that_refuses_to_show_what_may_be_attached_is_copied() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    from.fault(Fault::on("/referrers/", What::status(401)));
    from.fault(Fault::on("/manifests/sha256-", What::status(403)));
    let settings = CopySettings {
        referrers: true,
        ..settings()
    };
    let copied = copier(&from, &to, settings).copy(&image("1.0", &digest)).await;
    assert_eq!(copied, Ok(Copied::Written));
}

#[tokio::test]
async fn refused_look_is_no_absence_where_registries_are_compared() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    to.push(FROM, "1.0", "first");
    for (status, class) in [(401, Class::Unauthorized), (403, Class::Forbidden)] {
        to.fault(Fault::on("/manifests/", What::status(status)));
        to.fault(Fault::on("/blobs/", What::status(status)));
        let target = client(to.connection(GENERIC, Provider::Generic));
        let failure = target.resolve(FROM, "1.0").await.unwrap_err();
        assert_eq!(failure.class, class);
        let source = client(from.connection(GENERIC, Provider::Generic));
        let clients = Sides {
            primary: &source,
            fallback: &target,
        };
        let paths = Sides {
            primary: FROM,
            fallback: FROM,
        };
        let found = inspect(clients.map(Some), paths, "1.0", &digest).await;
        assert_eq!(found.primary, Ok(None));
        assert!(found.fallback.is_err(), "unknown, and nothing is missing");
        to.clear_faults();
    }
}
