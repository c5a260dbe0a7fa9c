//! `DescribeImages`: tags with digests, and no pull. Unlike a GET by tag it never has an image imported.

use catamaran_core::digest::Digest;
use serde::Deserialize;
use serde_json::json;

use super::call::Ecr;
use crate::tags::pages::{Gathered, Seen};
use crate::tags::{ListedTag, Resolved};
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::json;
use crate::wire::path;

/// The most that Amazon gives at once.
const PAGE: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    image_details: Vec<Image>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "imageDigest")]
    digest: String,
    #[serde(default, rename = "imageTags")]
    tags: Option<Vec<String>>,
    #[serde(default, rename = "imageStatus")]
    status: Option<String>,
}

impl Image {
    /// Archived images can't be pulled, so they are not there.
    fn digest(&self) -> Option<Digest> {
        let archived = self
            .status
            .as_deref()
            .is_some_and(|status| status.eq_ignore_ascii_case("ARCHIVED"));
        self.digest.parse().ok().filter(|_| !archived)
    }
}

impl Ecr {
    /// All tags of a repository that can be pulled, each once, with digests.
    pub(super) async fn list(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        path::check_repository(repository)?;
        let limits = &self.http.limits;
        let (mut tags, mut seen) = (Gathered::default(), Seen::default());
        let mut next: Option<String> = None;
        loop {
            let mut input = json!({
                "repositoryName": repository, "maxResults": PAGE, "filter": { "tagStatus": "TAGGED" },
            });
            if let Some(token) = &next {
                input["nextToken"] = token.clone().into();
            }
            let (_, body) = self.call("DescribeImages", input, Stage::Tags).await?;
            let (page, following) = read(&body).ok_or_else(|| self.broken("no list of images"))?;
            tags.add(page, limits).map_err(|why| self.broken(&why))?;
            let Some(token) = following else { break };
            seen.note(&token, limits).map_err(|why| self.broken(&why))?;
            next = Some(token);
        }
        Ok(tags.sorted())
    }

    /// What a tag stands for, without a pull.
    pub(super) async fn image(&self, repository: &str, tag: &str) -> Result<Resolved, Failure> {
        path::check_repository(repository)?;
        path::check_reference(tag)?;
        let input = json!({ "repositoryName": repository, "imageIds": [{ "imageTag": tag }] });
        let (_, body) = self.call("DescribeImages", input, Stage::Manifest).await?;
        let page: Option<Page> = json::object(&body, json::FEW_VALUES);
        let page = page.ok_or_else(|| self.broken("no list of images"))?;
        let digest = page.image_details.iter().find_map(Image::digest);
        let digest = digest.ok_or_else(|| {
            let message = format!("DescribeImages of {}: {repository}:{tag} is archived", self.place.api);
            Failure::new(Stage::Manifest, Class::Absent, message)
        })?;
        Ok(Resolved {
            digest,
            verified: false,
        })
    }

    pub(super) fn broken(&self, why: &str) -> Failure {
        let message = format!("{}: not Amazon's answer: {why}", self.place.api);
        Failure::new(Stage::Tags, Class::Unexpected, message)
    }
}

fn read(body: &[u8]) -> Option<(Vec<ListedTag>, Option<String>)> {
    let page: Page = json::object(body, json::PAGE_VALUES)?;
    let tags = page.image_details.into_iter().flat_map(|image| {
        let digest = image.digest();
        let names = image.tags.unwrap_or_default().into_iter();
        names.filter(|name| path::is_tag(name)).filter_map(move |name| {
            let digest = Some(digest.clone()?);
            Some(ListedTag {
                name,
                digest,
                locked: None,
            })
        })
    });
    Some((tags.collect(), page.next_token.filter(|token| !token.is_empty())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn images_that_can_be_pulled_are_listed_by_tag() {
        let digest = Digest::of(b"x").to_string();
        let names = |details: &str| {
            let page = format!(r#"{{"imageDetails":{details}}}"#);
            read(page.as_bytes()).map(|(tags, _)| tags.into_iter().map(|tag| tag.name).collect::<Vec<_>>())
        };
        let listed = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
        let image = |more: &str| format!(r#"[{{"imageDigest":"{digest}"{more}}}]"#);
        let cases = [
            (
                image(r#","imageTags":["1","latest"],"imageStatus":"ACTIVE""#),
                listed(&["1", "latest"]),
            ),
            (image(r#","imageTags":["1"]"#), listed(&["1"])),
            (image(r#","imageTags":["1"],"imageStatus":"ARCHIVED""#), listed(&[])),
            (image(r#","imageTags":null"#), listed(&[])),
            (image(""), listed(&[])),
            (image(r#","imageTags":["../x"]"#), listed(&[])),
            (r#"[{"imageDigest":"md5:1","imageTags":["1"]}]"#.to_owned(), listed(&[])),
            ("[]".to_owned(), listed(&[])),
            ("null".to_owned(), None),
            ("[{}]".to_owned(), None),
        ];
        for (details, expected) in cases {
            assert_eq!(names(&details), expected, "{details}");
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }

        #[test]
        fn what_is_read_is_tags_only(tags in proptest::collection::vec(".{0,12}", 0..8), token in ".{0,8}") {
            let body = serde_json::json!({
                "imageDetails": [{ "imageDigest": Digest::of(b"x").to_string(), "imageTags": tags }], "nextToken": token,
            });
            let (found, next) = read(body.to_string().as_bytes()).unwrap();
            prop_assert!(found.iter().all(|tag| path::is_tag(&tag.name) && tag.digest.is_some()));
            prop_assert_eq!(next.is_none(), token.is_empty());
        }
    }

    #[test]
    fn fuzzed_images_are_tags_with_digests_or_no_page() {
        let digest = Digest::of(b"x");
        let image =
            format!(r#"{{"imageDigest":"{digest}","imageTags":["1.0"],"imageStatus":"ACTIVE","imagePushedAt":1.7e9}}"#);
        let page = format!(r#"{{"imageDetails":[{image},{image}],"nextToken":"t"}}"#);
        let property = |input: Vec<u8>| {
            if let Some((tags, next)) = read(&input) {
                prop_assert!(tags.iter().all(|tag| path::is_tag(&tag.name) && tag.digest.is_some()));
                prop_assert!(next.is_none_or(|next| !next.is_empty() && next.len() <= input.len()));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "images", &catamaran_fuzz::mutated(&[&page]), property);
    }
}
