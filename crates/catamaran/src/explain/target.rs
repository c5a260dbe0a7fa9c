//! What is to be explained, as it was typed.

use anyhow::bail;

/// An image or a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An image reference.
    Image(String),
    /// A pod's name.
    Pod(String),
}

/// Reads the argument. `pod/NAME` is a pod; an image of Docker Hub that is spelled so is written with its registry.
pub fn parse(typed: &str) -> anyhow::Result<Target> {
    let kinds = ["pod/", "pods/", "po/"];
    let Some(name) = kinds.iter().find_map(|kind| typed.strip_prefix(kind)) else {
        if typed.trim().is_empty() {
            bail!("give an image such as kracr.azurecr.io/kevinryan-io:3f2a91c, or a pod as pod/NAME");
        }
        return Ok(Target::Image(typed.to_owned()));
    };
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_part) {
        bail!("'{name}' is no name of a pod; for an image of Docker Hub write docker.io/{typed}");
    }
    Ok(Target::Pod(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_as_kubectl_names_them_and_the_rest_are_images() {
        let pod = |name: &str| Target::Pod(name.to_owned());
        assert_eq!(parse("pod/web-0").unwrap(), pod("web-0"));
        assert_eq!(parse("po/web-0").unwrap(), pod("web-0"));
        let image = "kracr.azurecr.io/pod/web:1";
        assert_eq!(parse(image).unwrap(), Target::Image(image.to_owned()));
    }

    #[test]
    fn what_is_neither_is_refused_with_advice() {
        let refused = |typed| parse(typed).unwrap_err().to_string();
        assert!(refused(" ").contains("pod/NAME"));
        assert!(refused("pod/web:1").contains("write docker.io/pod/web:1"));
        assert!(refused("pod/").contains("no name of a pod"));
    }
}
