//! Who may do what on the plain lane: the rights of users, and what a bucket's policy says about everybody.

use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_s3::actions;
use blobstore_sidecar_s3::names::path_of;
use blobstore_sidecar_s3::policy::{Deed, EXISTING_TAG, Facts, Policy, Verdict};
use blobstore_sidecar_store::{BucketInfo, ErrorKind, StoreError};
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, StatusCode};

use super::{Exchange, HEADER_TAGS, Side, VERSION_PARAMETER, failure};
use crate::auth::{Denied, Target};
use crate::body::RequestBody;
use crate::error::ApiError;
use crate::metrics::{REJECTED, reason};
use crate::route::{self, Bulk, Operation};
use crate::s3::{self, Scene};
use crate::shell::Shell;

/// What a bucket's policy says of doing all of this with one key of it, or with the bucket itself (an empty key). A
/// bucket that cannot be looked up says nothing that could be relied on: an error.
pub async fn verdict(
    shell: &Arc<Shell>,
    actions: &[impl AsRef<str>],
    (bucket, key): (&str, &str),
    asker: &(dyn Fn() -> Asker + Send + Sync),
) -> Result<Verdict, StoreError> {
    let Ok(name) = BucketName::parse(bucket) else { return Ok(Verdict::Silent) };
    let said = |info: &BucketInfo| verdict_of(info, actions, key, asker, None);
    let known = shell.store.bucket_at_hand(&name, said);
    if let Some(Some(verdict)) = known {
        return Ok(verdict);
    }
    // Boxed: what is known here does without it.
    let info = match Box::pin(shell.store.bucket_last_known(&name)).await {
        Ok(info) => info,
        Err(error) if error.kind == ErrorKind::NoSuchBucket => return Ok(Verdict::Silent),
        Err(error) => return Err(error),
    };
    if let Some(verdict) = said(&info) {
        return Ok(verdict);
    }
    let tags = tags(shell, bucket, key).await;
    Ok(verdict_of(&info, actions, key, asker, Some(tags)).unwrap_or(Verdict::Deny))
}

/// `None`: the policy asks about the tags of the object, which have to be looked up.
fn verdict_of(
    info: &BucketInfo,
    actions: &[impl AsRef<str>],
    key: &str,
    asker: &(dyn Fn() -> Asker + Send + Sync),
    tags: Option<Facts>,
) -> Option<Verdict> {
    let bucket = info.name.as_str();
    let Some(text) = info.document(s3::POLICY) else { return Some(Verdict::Silent) };
    let Ok(policy) = Policy::parse(text, bucket) else {
        tracing::warn!(bucket, "the bucket's policy cannot be read: nobody may use it until it is replaced");
        return Some(Verdict::Deny);
    };
    if policy.wants_tags() && !key.is_empty() && tags.is_none() {
        return None;
    }
    let Asker { user, mut facts } = asker();
    facts.extend(tags.unwrap_or_default());
    let restricted = s3::is_restricted(info);
    let deed = |action| Deed { user: user.as_deref(), action, bucket, key, facts: &facts };
    Some(all(actions.iter().map(|action| policy.verdict(deed(action.as_ref()), restricted))))
}

/// Who asks, and what else is known of the request. Found out only where a policy wants to know.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// By name; nobody, if nobody signed.
    pub user: Option<String>,
    pub facts: Facts,
}

/// The tags of an object that is there already, as facts.
fn tags<'a>(shell: &'a Arc<Shell>, bucket: &'a str, key: &'a str) -> BoxFuture<'a, Facts> {
    Box::pin(async move {
        let mut request = http::Request::new(());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = path_of(bucket, key).parse().unwrap_or_default();
        let (head, ()) = request.into_parts();
        let found = super::inside(shell, &head, "", RequestBody::none()).await;
        let text =
            found.ok().and_then(|found| Some(found.headers().get(HEADER_TAGS)?.to_str().ok()?.to_owned()));
        let tags = route::parameters(&text.unwrap_or_default()).unwrap_or_default();
        let fact =
            |(name, value): (String, String)| (format!("{EXISTING_TAG}{}", name.to_ascii_lowercase()), value);
        tags.into_iter().map(fact).collect()
    })
}

/// One denial denies, and all have to be allowed.
fn all(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let (mut any, mut every) = (false, true);
    for verdict in verdicts {
        match verdict {
            Verdict::Deny => return Verdict::Deny,
            Verdict::Allow => any = true,
            Verdict::Silent => every = false,
        }
    }
    if any && every { Verdict::Allow } else { Verdict::Silent }
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
            let said = verdict(self.shell, &[action], (bucket, key), &|| self.asker()).await;
            match said.map_err(|error| self.fail(error))? {
                Verdict::Deny => return Err(denied("the bucket's policy denies this")),
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

    fn asker(&self) -> Asker {
        let user = self.shell.users().name_in(&self.head.headers);
        let Parts { method, headers, uri, .. } = self.head;
        let scene = Scene { method, headers, uri, caller: self.caller };
        Asker { facts: scene.facts(user.as_deref()), user }
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
        match verdict(self.shell, &["s3:ListBucket"], (bucket, ""), &|| self.asker()).await {
            Ok(Verdict::Allow) => error,
            _ => denied("the object is not there, or may not be seen"),
        }
    }
}

/// What an operation of the plain lane is to a policy: action, bucket, key, and may a policy open it at all.
fn deeds(operation: &Operation, tagged: bool) -> Vec<(&'static str, &str, &str, bool)> {
    match operation {
        // Users of ours only: nobody is to be able to empty a bucket because its policy is open.
        Operation::Bulk { bucket, bulk: Bulk::Found { .. } } => {
            vec![("s3:ListBucket", bucket.as_str(), "", false)]
        }
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
        for (verdicts, want) in [
            (vec![Allow, Allow], Allow),
            (vec![Allow, Silent], Silent),
            (vec![Allow, Deny], Deny),
            (vec![Deny], Deny),
            (vec![], Silent),
        ] {
            assert_eq!(all(verdicts.clone().into_iter()), want, "{verdicts:?}");
        }
    }
}
