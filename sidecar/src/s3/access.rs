//! Who may do what over S3: secrets of access keys, and the right that every operation takes.

use std::sync::Arc;

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_s3::actions;
use blobstore_sidecar_s3::policy::Verdict;
use http::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::validation::NameValidation;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::facts::{Known, Scene};
use super::{Context, error, headers};
use crate::auth::{Right, Target};
use crate::lane::{self, Asker};
use crate::metrics::{REJECTED, reason};
use crate::route;
use crate::shell::Shell;

/// Buckets that exist may have any name that the plain lane allows; new ones are held to S3's rules elsewhere.
#[derive(Debug)]
pub(super) struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        BucketName::parse(name).is_ok()
    }
}

/// Secret keys of the store's users, as they are now.
#[derive(Debug)]
pub(super) struct Secrets(pub(super) Arc<Shell>);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.users().secret_of(access_key) {
            Some(secret) => Ok(SecretKey::from(secret)),
            None => {
                REJECTED.with_label_values(&[reason::AUTH]).inc();
                Err(s3_error!(InvalidAccessKeyId))
            }
        }
    }
}

/// What an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// This right on the request's bucket and key.
    One(Right),
    /// The handler asks for each thing it touches.
    Each,
}

/// Operation, metric label, right. Whatever is not here takes [`Right::Admin`] and is not implemented.
const OPERATIONS: &[(&str, &str, Needs)] = &[
    ("GetObject", "s3_get", Needs::One(Right::Read)),
    ("HeadObject", "s3_head", Needs::One(Right::Read)),
    ("GetObjectAttributes", "s3_attributes", Needs::One(Right::Read)),
    ("GetBucketPolicyStatus", "s3_bucket_get", Needs::One(Right::List)),
    ("GetObjectTagging", "s3_tags_get", Needs::One(Right::Read)),
    ("GetObjectAcl", "s3_acl_get", Needs::One(Right::Read)),
    ("GetObjectRetention", "s3_lock_get", Needs::One(Right::Read)),
    ("GetObjectLegalHold", "s3_lock_get", Needs::One(Right::Read)),
    ("PutObject", "s3_put", Needs::One(Right::Write)),
    ("PostObject", "s3_post", Needs::Each),
    ("CopyObject", "s3_copy", Needs::One(Right::Write)),
    ("PutObjectTagging", "s3_tags_put", Needs::One(Right::Write)),
    ("DeleteObjectTagging", "s3_tags_delete", Needs::One(Right::Write)),
    ("PutObjectAcl", "s3_acl_put", Needs::One(Right::Write)),
    ("CreateMultipartUpload", "s3_multipart_create", Needs::One(Right::Write)),
    ("UploadPart", "s3_part_put", Needs::One(Right::Write)),
    ("UploadPartCopy", "s3_part_copy", Needs::One(Right::Write)),
    ("CompleteMultipartUpload", "s3_multipart_complete", Needs::One(Right::Write)),
    ("AbortMultipartUpload", "s3_multipart_abort", Needs::One(Right::Write)),
    ("ListParts", "s3_parts_list", Needs::One(Right::Write)),
    ("DeleteObject", "s3_delete", Needs::One(Right::Delete)),
    ("DeleteObjects", "s3_delete_many", Needs::Each),
    ("ListObjects", "s3_list", Needs::One(Right::List)),
    ("ListObjectsV2", "s3_list", Needs::One(Right::List)),
    ("ListObjectVersions", "s3_list_versions", Needs::One(Right::List)),
    ("ListMultipartUploads", "s3_uploads_list", Needs::One(Right::List)),
    ("ListBuckets", "s3_list_buckets", Needs::Each),
    ("HeadBucket", "s3_head_bucket", Needs::One(Right::List)),
    ("GetBucketLocation", "s3_bucket_get", Needs::One(Right::List)),
    ("GetBucketVersioning", "s3_bucket_get", Needs::One(Right::List)),
    ("GetBucketAcl", "s3_bucket_get", Needs::One(Right::List)),
    ("CreateBucket", "s3_create_bucket", Needs::One(Right::Admin)),
    ("DeleteBucket", "s3_delete_bucket", Needs::One(Right::Admin)),
];

/// Operations whose handlers ask about more than the request's own object.
const ASKING: &[&str] = &["CopyObject", "UploadPartCopy"];

/// What a policy cannot deny to those who administer the bucket.
const RESCUE: &[&str] = &["GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"];

fn needs(operation: &str) -> (&'static str, Needs) {
    let known = OPERATIONS.iter().find(|(name, ..)| *name == operation);
    known.map_or(("s3_other", Needs::One(Right::Admin)), |(_, label, needs)| (*label, *needs))
}

/// Checks rights before anything is read.
#[derive(Debug)]
pub(super) struct Rights(pub(super) Arc<Shell>);

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let (label, needs) = needs(cx.s3_op().name());
        let context = cx.extensions_mut().get::<Context>().cloned();
        if let Some(context) = &context {
            let _ = context.0.label.set(label);
        }
        let parameters = route::parameters(cx.uri().query().unwrap_or_default()).unwrap_or_default();
        plausible(&parameters)?;
        complete(cx.s3_op().name(), cx.s3_path(), &parameters)?;
        copies(cx.s3_op().name(), cx.headers())?;
        headers::check(cx.s3_op().name(), cx.headers())?;
        let proven = context.as_ref().and_then(|context| context.0.who.get());
        let who = cx.credentials().map(|known| &known.access_key).or(proven).map(String::as_str);
        let caller = context.as_ref().map(|context| context.0.caller).unwrap_or_default();
        let scene = Scene { method: cx.method(), headers: cx.headers(), uri: cx.uri(), caller };
        if who.is_none() || needs == Needs::Each || ASKING.contains(&cx.s3_op().name()) {
            let user = who.and_then(|who| self.0.users().name_of(who).map(str::to_owned));
            let _ = context.as_ref().map(|context| context.0.facts.set(scene.facts(user.as_deref())));
        }
        let Needs::One(right) = needs else { return Ok(()) };
        let prefix = parameters.iter().find(|(name, _)| name == "prefix").map(|(_, value)| value.as_str());
        let (target, key) = match cx.s3_path() {
            S3Path::Root => (Target { bucket: "", name: "" }, ""),
            S3Path::Bucket { bucket } => (Target { bucket, name: prefix.unwrap_or_default() }, ""),
            S3Path::Object { bucket, key } => (Target { bucket, name: key }, &**key),
        };
        let version = parameters.iter().any(|(name, _)| name == "versionId");
        let mut actions = actions::actions_of(cx.s3_op().name(), version);
        if cx.headers().contains_key("x-amz-tagging") && right == Right::Write {
            actions.push("s3:PutObjectTagging".to_owned());
        }
        // Whoever may do anything here must be able to take a policy back.
        if RESCUE.contains(&cx.s3_op().name()) {
            return allow(&self.0, who, right, target);
        }
        let asked = Asked { right, target, key, actions: &actions };
        permit(&self.0, who, asked, &scene).await
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) right: Right,
    /// For the rights of users.
    pub(super) target: Target<'a>,
    /// For the bucket's policy. Empty: it is about the bucket itself.
    pub(super) key: &'a str,
    pub(super) actions: &'a [String],
}

/// May whoever signed with this key do that, by his rights or because the bucket's policy lets everybody? What the
/// policy denies nobody may. Buckets are administered by rights only. `None`: nobody signed.
pub(super) async fn permit(
    shell: &Arc<Shell>,
    who: Option<&str>,
    asked: Asked<'_>,
    scene: &(dyn Known + Send + Sync),
) -> S3Result<()> {
    let Asked { right, target, key, actions } = asked;
    let asker = || {
        let user = who.and_then(|who| shell.users().name_of(who).map(str::to_owned));
        Asker { facts: scene.known(user.as_deref()), user }
    };
    let verdict = lane::verdict(shell, actions, (target.bucket, key), &asker).await;
    let verdict = verdict.map_err(|error| error::from_api(lane::refusal(error, target.bucket, "")))?;
    match verdict {
        Verdict::Deny => {
            REJECTED.with_label_values(&[reason::AUTH]).inc();
            Err(S3Error::new(S3ErrorCode::AccessDenied))
        }
        Verdict::Allow if right != Right::Admin => Ok(()),
        Verdict::Allow | Verdict::Silent => allow(shell, who, right, target),
    }
}

/// May whoever signed with this key do that by his rights?
fn allow(shell: &Shell, who: Option<&str>, right: Right, target: Target<'_>) -> S3Result<()> {
    if shell.users().key_allows(who, right, target) {
        return Ok(());
    }
    REJECTED.with_label_values(&[reason::AUTH]).inc();
    Err(S3Error::new(S3ErrorCode::AccessDenied))
}

/// Numbers that are none get the code that clients know, not the parser's.
fn plausible(parameters: &[route::Parameter]) -> S3Result<()> {
    const NUMBERS: &[&str] = &["max-keys", "max-uploads", "max-parts", "part-number-marker", "max-buckets"];
    for (name, value) in parameters.iter().filter(|(name, _)| NUMBERS.contains(&name.as_str())) {
        match value.parse::<i32>() {
            Ok(number) if number >= 0 => {}
            Ok(_) if name == "max-buckets" => {}
            Ok(_) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Argument {name} must be an integer between 0 and 2147483647"
                ));
            }
            Err(_) if value.is_empty() => {}
            Err(_) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Provided {name} not an integer or within integer range"
                ));
            }
        }
    }
    Ok(())
}

/// Do the parameters ask for one thing that there is? A part has a number and an upload: with only one of them it would
/// be an object.
fn complete(operation: &str, path: &S3Path, parameters: &[route::Parameter]) -> S3Result<()> {
    let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
    let subresources = parameters.iter().map(|(name, _)| name.as_str());
    let subresources: Vec<&str> = subresources.filter(|name| route::SUBRESOURCES.contains(name)).collect();
    if subresources.len() > 1 {
        let names = subresources.join(", ");
        return Err(s3_error!(InvalidArgument, "Conflicting query string parameters: {names}"));
    }
    if matches!(path, S3Path::Object { .. }) && operation == "GetObject" {
        if has("uploads") {
            return Err(s3_error!(
                InvalidRequest,
                "Key is not expected for the GET method ?uploads subresource"
            ));
        }
        if has("versions") {
            return Err(s3_error!(
                InvalidRequest,
                "There is no such thing as the ?versions sub-resource for a key"
            ));
        }
    }
    if !matches!(operation, "PutObject" | "CopyObject") {
        return Ok(());
    }
    match (has("partNumber"), has("uploadId")) {
        (true, _) => {
            Err(s3_error!(InvalidArgument, "This operation does not accept partNumber without uploadId"))
        }
        (false, true) => Err(s3_error!(InvalidArgument, "A part needs both partNumber and uploadId")),
        (false, false) => Ok(()),
    }
}

/// Only copies have a source.
fn copies(operation: &str, headers: &HeaderMap) -> S3Result<()> {
    if headers.contains_key("x-amz-copy-source") && !ASKING.contains(&operation) {
        return Err(s3_error!(
            InvalidArgument,
            "You can only specify a copy source header for copy requests."
        ));
    }
    Ok(())
}
