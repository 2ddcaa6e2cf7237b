//! Buckets in host names: which domains carry them, and the bucket that a `Host` header names.

use std::net::IpAddr;

/// Domains of one store: more would only slow down every request.
pub const DOMAINS_MAX: usize = 16;
/// A name of DNS, and one label of it.
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// `bucket.domain/key` is `/bucket/key`, for each of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(Vec<String>);

/// Why a text is no domain that buckets could stand before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    #[error(
        "{0:?} is no domain for buckets: lower-case labels of letters, digits and '-', with dots between, no port and \
         no address"
    )]
    Name(String),
    #[error("{0} domains for buckets are more than {DOMAINS_MAX}")]
    TooMany(usize),
}

impl Domains {
    /// The longest first, so that a domain within another is found.
    pub fn new(mut names: Vec<String>) -> Result<Self, DomainError> {
        if names.len() > DOMAINS_MAX {
            return Err(DomainError::TooMany(names.len()));
        }
        if let Some(wrong) = names.iter().find(|name| !is_domain(name)) {
            return Err(DomainError::Name(wrong.clone()));
        }
        names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Ok(Self(names))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bucket that stands before a domain of ours. `None`: the path names it.
    pub fn bucket(&self, host: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if self.0.contains(&host) {
            return None;
        }
        let before = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
        self.0.iter().find_map(before).filter(|bucket| !bucket.is_empty()).map(str::to_owned)
    }
}

fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= DOMAIN_BYTES_MAX && name.parse::<IpAddr>().is_err() && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, want: Option<&str>) {
        let names = ["s3.example.com", "example.com", "localhost"].map(str::to_owned).to_vec();
        let domains = Domains::new(names).expect("domains");
        assert_eq!(domains.bucket(host).as_deref(), want, "{host}");
    }

    #[test]
    fn the_bucket_stands_before_the_domain() {
        check("photos.s3.example.com", Some("photos"));
        check("Photos.S3.example.com:9000", Some("photos"));
        check("a.b.s3.example.com.", Some("a.b"));
        check("photos.example.com", Some("photos"));
        check("photos.localhost:80", Some("photos"));
        for host in [
            "s3.example.com",
            "example.com:9000",
            "localhost",
            "other.org",
            "xexample.com",
            ".example.com",
            "10.0.0.1:9000",
            "[::1]:9000",
            "",
        ] {
            check(host, None);
        }
        assert_eq!(Domains::default().bucket("photos.example.com"), None);
    }

    #[test]
    fn domains_are_names() {
        for wrong in ["", "Upper.com", "a..b", "-a.com", "a-.com", "a.com:80", "10.0.0.1", "*.com", "a_b"] {
            assert_eq!(Domains::new(vec![wrong.to_owned()]), Err(DomainError::Name(wrong.to_owned())));
        }
        let many = vec!["a".to_owned(); DOMAINS_MAX + 1];
        assert_eq!(Domains::new(many), Err(DomainError::TooMany(DOMAINS_MAX + 1)));
    }
}
