//! Where a registry's account and its interface are, by the registry's name alone.

/// A private registry of Amazon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Twelve digits.
    pub(super) account: String,
    /// Such as `eu-central-1`.
    pub(super) region: String,
    /// The host of the account's interface.
    pub(super) api: String,
}

impl Place {
    /// Reads a registry's host (AWS General Reference, "Amazon ECR endpoints and quotas"); `None` for any other.
    pub(super) fn of(registry: &str) -> Option<Place> {
        let (account, rest) = registry.split_once('.')?;
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // What follows the account, what follows the region, and the interface's host around the region.
        let forms = [
            ("dkr.ecr.", ".amazonaws.com", "api.ecr.", ".amazonaws.com"),
            ("dkr.ecr.", ".amazonaws.com.cn", "api.ecr.", ".amazonaws.com.cn"),
            ("dkr.ecr-fips.", ".amazonaws.com", "ecr-fips.", ".amazonaws.com"),
            ("dkr-ecr.", ".on.aws", "ecr.", ".api.aws"),
            ("dkr-ecr-fips.", ".on.aws", "ecr-fips.", ".api.aws"),
            (
                "dkr-ecr.",
                ".on.amazonwebservices.com.cn",
                "ecr.",
                ".api.amazonwebservices.com.cn",
            ),
        ];
        forms.iter().find_map(|(before, after, api_before, api_after)| {
            let region = rest.strip_prefix(before)?.strip_suffix(after)?;
            is_region(region).then(|| Place {
                account: account.to_owned(),
                region: region.to_owned(),
                api: format!("{api_before}{region}{api_after}"),
            })
        })
    }
}

fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (5..=32).contains(&text.len()) && text.contains('-') && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_region_and_interface_are_in_the_registrys_name() {
        let cases = [
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
                Some(("eu-central-1", "api.ecr.eu-central-1.amazonaws.com")),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some(("cn-north-1", "api.ecr.cn-north-1.amazonaws.com.cn")),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some(("us-gov-west-1", "ecr-fips.us-gov-west-1.amazonaws.com")),
            ),
            (
                "123456789012.dkr-ecr.us-east-1.on.aws",
                Some(("us-east-1", "ecr.us-east-1.api.aws")),
            ),
            (
                "123456789012.dkr-ecr-fips.us-east-1.on.aws",
                Some(("us-east-1", "ecr-fips.us-east-1.api.aws")),
            ),
            ("public.ecr.aws", None),
            ("12345678901.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("12345678901x.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test", None),
            ("123456789012.dkr.ecr.evil.test/.amazonaws.com", None),
            ("123456789012.dkr.ecr.a.b-c.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com:8443", None),
            ("ghcr.io", None),
            ("", None),
        ];
        for (registry, expected) in cases {
            let found = Place::of(registry);
            let found = found.as_ref().map(|place| (place.region.as_str(), place.api.as_str()));
            assert_eq!(found, expected, "{registry}");
        }
    }
}
