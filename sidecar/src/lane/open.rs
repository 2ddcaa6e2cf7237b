//! Who may do what on the plain lane: the rights of users, and what a bucket's policy says about everybody.

use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_s3::actions;
use blobstore_sidecar_s3::policy::{Deed, Policy, Verdict};
use blobstore_sidecar_store::{BucketInfo, ErrorKind, StoreError};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};

use super::{Exchange, HEADER_TAGS, Side, VERSION_PARAMETER, failure};
use crate::auth::{Denied, Target};
use crate::error::ApiError;
use crate::metrics::{REJECTED, reason};
use crate::route::Operation;
use crate::s3;
use crate::shell::Shell;

/// What a bucket's policy says of doing all of this with one key of it, or with the bucket itself (an empty key). A
/// bucket that cannot be looked up says nothing that could be relied on: an error.
pub async fn verdict(
    shell: &Arc<Shell>,
    actions: &[impl AsRef<str>],
    bucket: &str,
    key: &str,
) -> Result<Verdict, StoreError> {
    let Ok(name) = BucketName::parse(bucket) else { return Ok(Verdict::Silent) };
    let said = |info: &BucketInfo| verdict_of(info, actions, key);
    if let Some(verdict) = shell.store.bucket_at_hand(&name, said) {
        return Ok(verdict);
    }
    // Boxed: what is known here does without it.
    match Box::pin(shell.store.bucket_last_known(&name)).await {
        Ok(info) => Ok(said(&info)),
        Err(error) if error.kind == ErrorKind::NoSuchBucket => Ok(Verdict::Silent),
        Err(error) => Err(error),
    }
}

fn verdict_of(info: &BucketInfo, actions: &[impl AsRef<str>], key: &str) -> Verdict {
    let bucket = info.name.as_str();
    let Some(text) = info.document(s3::POLICY) else { return Verdict::Silent };
    let Ok(policy) = Policy::parse(text, bucket) else {
        tracing::warn!(bucket, "the bucket's policy cannot be read: nobody may use it until it is replaced");
        return Verdict::Deny;
    };
    let verdicts = actions.iter().map(|action| policy.verdict(Deed { action: action.as_ref(), bucket, key }));
    all(verdicts, s3::is_restricted(info))
}

/// One denial denies, and all have to be allowed. `restricted`: nothing is opened to everybody.
fn all(verdicts: impl Iterator<Item = Verdict>, restricted: bool) -> Verdict {
    let (mut any, mut every) = (false, true);
    for verdict in verdicts {
        match verdict {
            Verdict::Deny => return Verdict::Deny,
            Verdict::Allow => any = true,
            Verdict::Silent => every = false,
        }
    }
    if any && every && !restricted { Verdict::Allow } else { Verdict::Silent }
}

/// What allows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// A right of the user, or this pod's own S3 side.
    Known,
    /// Only the bucket's policy, to everybody.
    Public,
}

fn denied(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    REJECTED.with_label_values(&[reason::AUTH]).inc();
    ApiError::new(StatusCode::FORBIDDEN, "AccessDenied", message)
}

/// Nobody of ours asks.
pub(super) fn unknown() -> ApiError {
    REJECTED.with_label_values(&[reason::AUTH]).inc();
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "Unauthorized",
        "send Authorization: Bearer <token>, or basic authentication, of a user of this store",
    )
    .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"blobstore\""))
}

impl Exchange<'_> {
    /// Is this allowed, and by what? A denial of the bucket's policy wins over the rights of users, and what the
    /// policy opens to everybody is open to users, too.
    pub(super) async fn authorise(&self, operation: &Operation) -> Result<Allowed, ApiError> {
        if self.side != Side::Client {
            return Ok(Allowed::Known);
        }
        let (mut open, mut opened) = (true, false);
        let version = self.names_version();
        for (action, bucket, key, opens) in deeds(operation, self.head.headers.contains_key(HEADER_TAGS)) {
            let action = if version { actions::versioned(action) } else { action };
            let said = verdict(self.shell, &[action], bucket, key).await;
            match said.map_err(|error| self.fail(error))? {
                Verdict::Deny => return Err(denied("the bucket's policy denies this to everybody")),
                Verdict::Allow if opens => opened = true,
                Verdict::Allow | Verdict::Silent => open = false,
            }
        }
        let users = self.shell.users();
        let refused = operation.needs().into_iter().flatten().find_map(|(right, bucket, name)| {
            let target = Target { bucket, name };
            users.check(&self.head.headers, right, target).err().map(|refused| (refused, right))
        });
        let Some((refused, right)) = refused else { return Ok(Allowed::Known) };
        // Wrong credentials are refused even where none are needed.
        let is_known = refused == Denied::Forbidden || !self.head.headers.contains_key(AUTHORIZATION);
        if open && opened && is_known {
            return Ok(Allowed::Public);
        }
        Err(match refused {
            Denied::Unknown => unknown(),
            Denied::Forbidden => denied(format!(
                "this user has no {right:?} right here: its grants are in the store's users Secret"
            )),
        })
    }

    /// Is it about one version? That is another action to a policy.
    fn names_version(&self) -> bool {
        let pairs = self.head.uri.query().unwrap_or_default().split('&');
        pairs
            .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
            .any(|name| name == VERSION_PARAMETER)
    }

    /// Who may read objects but not list them is not told which ones there are.
    pub(super) async fn hidden(&self, error: ApiError) -> ApiError {
        let bucket = self.head.uri.path().split('/').nth(1).unwrap_or_default();
        if error.code != "NoSuchKey" {
            return error;
        }
        match verdict(self.shell, &["s3:ListBucket"], bucket, "").await {
            Ok(Verdict::Allow) => error,
            _ => denied("the object is not there, or may not be seen"),
        }
    }
}

/// What an operation of the plain lane is to a policy: action, bucket, key, and may a policy open it at all.
fn deeds(operation: &Operation, tagged: bool) -> Vec<(&'static str, &str, &str, bool)> {
    match operation {
        // Each item of many is looked at by itself.
        Operation::ListBuckets | Operation::Bulk { .. } => Vec::new(),
        Operation::CreateBucket { bucket } => vec![("s3:CreateBucket", bucket.as_str(), "", false)],
        Operation::DeleteBucket { bucket } => vec![("s3:DeleteBucket", bucket.as_str(), "", false)],
        Operation::HeadBucket { bucket } | Operation::List { bucket, .. } => {
            vec![("s3:ListBucket", bucket.as_str(), "", true)]
        }
        Operation::Put { bucket, name } | Operation::PutPart { bucket, name, .. } => {
            let tags = tagged.then(|| deed("s3:PutObjectTagging", (bucket, name), true));
            std::iter::once(deed("s3:PutObject", (bucket, name), true)).chain(tags).collect()
        }
        Operation::Describe { bucket, name } => vec![deed("s3:PutObject", (bucket, name), false)],
        Operation::Get { bucket, name } | Operation::Head { bucket, name } => {
            vec![deed("s3:GetObject", (bucket, name), true)]
        }
        Operation::Delete { bucket, name } => vec![deed("s3:DeleteObject", (bucket, name), true)],
        Operation::Copy { from, to, rename } => {
            let gone = rename.then(|| deed("s3:DeleteObject", (&from.0, &from.1), false));
            let both = [
                deed("s3:PutObject", (&to.0, &to.1), false),
                deed("s3:GetObject", (&from.0, &from.1), false),
            ];
            both.into_iter().chain(gone).collect()
        }
    }
}

fn deed<'a>(
    action: &'static str,
    (bucket, name): (&'a BucketName, &'a ObjectName),
    opens: bool,
) -> (&'static str, &'a str, &'a str, bool) {
    (action, bucket.as_str(), name.as_str(), opens)
}

/// What a client is told of an error of the store that concerns this bucket.
pub fn refusal(error: StoreError, bucket: &str, request_id: &str) -> ApiError {
    match error.kind {
        ErrorKind::NoSuchBucket => ApiError::no_such_bucket(bucket),
        _ => failure::from_store(error, request_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_be_allowed_and_one_denial_denies() {
        use Verdict::{Allow, Deny, Silent};
        for (verdicts, restricted, want) in [
            (vec![Allow, Allow], false, Allow),
            (vec![Allow, Silent], false, Silent),
            (vec![Allow, Deny], false, Deny),
            (vec![Allow], true, Silent),
            (vec![Deny], true, Deny),
            (vec![], false, Silent),
        ] {
            assert_eq!(all(verdicts.clone().into_iter(), restricted), want, "{verdicts:?}");
        }
    }
}
