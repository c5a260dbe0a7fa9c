//! What is attached to an image comes along: all of it, or the copy fails.

use catamaran_core::digest::Digest;
use catamaran_registry::{Copied, CopyError, CopySettings};
use catamaran_scripted_registry::{Fault, IMAGE_INDEX, IMAGE_MANIFEST, Registry, What};

use crate::answer;
use crate::copying::{FROM, TO, content, copier, descriptor, image, pair, push_index, push_manifest, settings, writes};

fn with_referrers() -> CopySettings {
    CopySettings {
        referrers: true,
        ..settings()
    }
}

/// A manifest that refers to another.
fn attach(registry: &Registry, repository: &str, name: &str, subject: &Digest) -> Digest {
    let rest = format!(
        r#","artifactType":"application/vnd.test.{name}","subject":{{"mediaType":"{IMAGE_MANIFEST}","digest":"{subject}","size":1}}"#
    );
    let config = content("{}", 2);
    push_manifest(registry, repository, &config, &[content(name, 300)], &rest).0
}

fn fallback(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

fn index_of(registry: &Registry, repository: &str, digests: &[&Digest]) -> String {
    let entries = digests.iter().map(|digest| {
        let size = registry.manifest(repository, &digest.to_string()).unwrap().1.len();
        descriptor(digest, size, "")
    });
    let entries = entries.collect::<Vec<_>>().join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE_INDEX}","manifests":[{entries}]}}"#)
}

fn listed(registry: &Registry, repository: &str, tag: &str) -> Vec<String> {
    let (_, body) = registry.manifest(repository, tag).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let mut digests: Vec<_> = manifests
        .iter()
        .map(|one| one["digest"].as_str().unwrap().to_owned())
        .collect();
    digests.sort();
    digests
}

fn sorted(digests: &[Digest]) -> Vec<String> {
    let mut sorted: Vec<_> = digests.iter().map(ToString::to_string).collect();
    sorted.sort();
    sorted
}

#[tokio::test]
async fn referrers_in_pages_are_all_copied() {
    for target_api in [true, false] {
        let (from, to) = pair().await;
        from.set_referrers(true);
        from.set_page_size(2);
        to.set_referrers(target_api);
        let digest = from.push(FROM, "1.0", "first");
        let attached: Vec<_> = (0..5)
            .map(|n| attach(&from, FROM, &format!("sig{n}"), &digest))
            .collect();
        let copied = copier(&from, &to, with_referrers()).copy(&image("1.0", &digest)).await;
        assert_eq!(copied, Ok(Copied::Written));
        for one in &attached {
            assert!(to.manifest(TO, &one.to_string()).is_some(), "{one}");
        }
        if !target_api {
            assert_eq!(listed(&to, TO, &fallback(&digest)), sorted(&attached));
        }
    }
}

#[tokio::test]
async fn list_of_referrers_that_can_not_be_read_to_its_end_fails_the_copy() {
    let link = |value: &str| What::Headers(vec![("link".to_owned(), value.to_owned())]);
    let second = |what| Fault::on("/referrers/", what);
    let faults = [
        second(link("<")),
        second(link("<https://evil.test/v2/x>; rel=\"next\"")),
        second(What::CircularPages),
        second(answer(200, &[], "{}")),
        second(answer(500, &[], "")),
    ];
    for fault in faults {
        let (from, to) = pair().await;
        from.set_referrers(true);
        let digest = from.push(FROM, "1.0", "first");
        attach(&from, FROM, "sig", &digest);
        let shown = format!("{fault:?}");
        from.fault(fault);
        let copied = copier(&from, &to, with_referrers()).copy(&image("1.0", &digest)).await;
        assert!(
            matches!(copied, Err(CopyError::Source(_) | CopyError::Unsupported(_))),
            "{shown}: {copied:?}"
        );
        assert!(
            to.manifest(TO, "1.0").is_none(),
            "{shown}: no image without its signatures"
        );
    }
}

#[tokio::test]
async fn what_is_attached_to_attachments_and_platforms_comes_along() {
    let (from, to) = pair().await;
    from.set_referrers(true);
    to.set_referrers(true);
    let digest = push_index(&from, FROM, "1.0");
    let sbom = attach(&from, FROM, "sbom", &digest);
    let signature = attach(&from, FROM, "sig", &sbom);
    let child: Digest = listed(&from, FROM, "1.0")[0].parse().unwrap();
    let of_platform = attach(&from, FROM, "platform", &child);
    copier(&from, &to, with_referrers())
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    for one in [&sbom, &signature, &of_platform] {
        assert!(to.manifest(TO, &one.to_string()).is_some(), "{one}");
    }
    let last = writes(&to).pop().unwrap();
    assert!(last.path.ends_with("/manifests/1.0"), "{}", last.path);
}

#[tokio::test]
async fn chain_of_attachments_without_end_is_an_error() {
    let (from, to) = pair().await;
    from.set_referrers(true);
    let digest = from.push(FROM, "1.0", "first");
    let mut subject = digest.clone();
    for n in 0..6 {
        subject = attach(&from, FROM, &format!("link{n}"), &subject);
    }
    let copied = copier(&from, &to, with_referrers()).copy(&image("1.0", &digest)).await;
    assert!(matches!(copied, Err(CopyError::Unsupported(_))), "{copied:?}");
}

#[tokio::test]
async fn tag_that_lists_referrers_is_merged_and_not_overwritten() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    let ours = [
        attach(&from, FROM, "sig", &digest),
        attach(&from, FROM, "sbom", &digest),
    ];
    let index = index_of(&from, FROM, &[&ours[0], &ours[1]]);
    from.put_manifest(FROM, Some(&fallback(&digest)), IMAGE_INDEX, index);
    let theirs = attach(&to, TO, "theirs", &digest);
    let index = index_of(&to, TO, &[&theirs]);
    to.put_manifest(TO, Some(&fallback(&digest)), IMAGE_INDEX, index);
    let copier = copier(&from, &to, with_referrers());
    copier.copy(&image("1.0", &digest)).await.unwrap();
    let all = sorted(&[ours[0].clone(), ours[1].clone(), theirs]);
    assert_eq!(listed(&to, TO, &fallback(&digest)), all);
    // Again: there is nothing to add.
    to.forget_requests();
    copier.copy(&image("1.0", &digest)).await.unwrap();
    assert_eq!(writes(&to), []);
}

#[tokio::test]
async fn what_was_attached_since_the_image_was_copied_comes_with_the_next_copy() {
    let (from, to) = pair().await;
    from.set_referrers(true);
    let digest = from.push(FROM, "1.0", "first");
    let copier = copier(&from, &to, with_referrers());
    copier.copy(&image("1.0", &digest)).await.unwrap();
    let first = attach(&from, FROM, "first", &digest);
    assert_eq!(copier.copy(&image("1.0", &digest)).await, Ok(Copied::AlreadyThere));
    let second = attach(&from, FROM, "second", &digest);
    copier.complete(&image("1.0", &digest)).await.unwrap();
    assert_eq!(listed(&to, TO, &fallback(&digest)), sorted(&[first, second]));
}

#[tokio::test]
async fn cosign_tag_that_lacks_signatures_is_replaced_by_the_one_that_has_them() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    let tag = format!("{}.sig", fallback(&digest));
    let layers = ["one", "two"].map(|name| content(name, 200));
    let (both, _) = push_manifest(&from, FROM, &content("config of both", 60), &layers, "");
    from.tag(FROM, &tag, &both);
    let (one, _) = push_manifest(&to, TO, &content("config of one", 60), &layers[..1], "");
    to.tag(TO, &tag, &one);
    copier(&from, &to, with_referrers())
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert_eq!(Digest::of(&to.manifest(TO, &tag).unwrap().1), both);
}
