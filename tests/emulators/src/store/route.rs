//! Paths of the distribution specification.

/// What a path below `/v2/` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The repository.
    pub repository: String,
    /// What of it.
    pub part: Part,
}

/// A part of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `tags/list`
    Tags,
    /// `manifests/{tag or digest}`
    Manifest(String),
    /// `blobs/{digest}`
    Blob(String),
    /// `blobs/uploads/`: a new upload.
    Uploads,
    /// `blobs/uploads/{id}`
    Upload(String),
    /// `referrers/{digest}`
    Referrers(String),
}

impl Route {
    /// Reads a path; `None` for `/v2/` itself and for what is not in the specification.
    pub fn parse(path: &str) -> Option<Route> {
        let rest = path.strip_prefix("/v2/")?;
        let (repository, part) = if let Some(repository) = rest.strip_suffix("/tags/list") {
            (repository, Part::Tags)
        } else if let Some((repository, upload)) = rest.split_once("/blobs/uploads/") {
            let part = if upload.is_empty() {
                Part::Uploads
            } else {
                Part::Upload(upload.to_owned())
            };
            (repository, part)
        } else if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            (repository, Part::Uploads)
        } else {
            let (head, last) = rest.rsplit_once('/')?;
            let (repository, kind) = head.rsplit_once('/')?;
            let last = last.to_owned();
            let part = match kind {
                "manifests" => Part::Manifest(last),
                "blobs" => Part::Blob(last),
                "referrers" => Part::Referrers(last),
                _ => return None,
            };
            (repository, part)
        };
        (!repository.is_empty()).then(|| Route {
            repository: repository.to_owned(),
            part,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_specification_has_them() {
        let cases = [
            ("/v2/a/b/tags/list", Some(("a/b", Part::Tags))),
            ("/v2/a/manifests/1.0", Some(("a", Part::Manifest("1.0".to_owned())))),
            (
                "/v2/a/b/blobs/sha256:x",
                Some(("a/b", Part::Blob("sha256:x".to_owned()))),
            ),
            ("/v2/a/blobs/uploads/", Some(("a", Part::Uploads))),
            ("/v2/a/blobs/uploads/7", Some(("a", Part::Upload("7".to_owned())))),
            (
                "/v2/a/referrers/sha256:x",
                Some(("a", Part::Referrers("sha256:x".to_owned()))),
            ),
            ("/v2/", None),
            ("/v2/_catalog", None),
            ("/v1/a/tags/list", None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(repository, part)| Route {
                repository: repository.to_owned(),
                part,
            });
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
