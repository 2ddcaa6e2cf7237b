//! Which actions of S3's policy language an operation takes, and which actions there are. Names compare without case,
//! as they do at AWS.

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Bucket,
    Object,
}

use Level::{Bucket, Object};

/// Operations whose actions are called otherwise than the operation. All of an operation's actions must be allowed.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("HeadObject", &["s3:GetObject"]),
    ("GetObjectAttributes", &["s3:GetObject", "s3:GetObjectAttributes"]),
    ("PostObject", &["s3:PutObject"]),
    ("CopyObject", &["s3:PutObject"]),
    ("CreateMultipartUpload", &["s3:PutObject"]),
    ("UploadPart", &["s3:PutObject"]),
    ("UploadPartCopy", &["s3:PutObject"]),
    ("CompleteMultipartUpload", &["s3:PutObject"]),
    ("ListParts", &["s3:ListMultipartUploadParts"]),
    ("DeleteObjects", &["s3:DeleteObject"]),
    ("ListObjects", &["s3:ListBucket"]),
    ("ListObjectsV2", &["s3:ListBucket"]),
    ("HeadBucket", &["s3:ListBucket"]),
    ("ListObjectVersions", &["s3:ListBucketVersions"]),
    ("ListMultipartUploads", &["s3:ListBucketMultipartUploads"]),
    ("ListBuckets", &["s3:ListAllMyBuckets"]),
    ("DeleteBucketCors", &["s3:PutBucketCORS"]),
    ("PutBucketLifecycleConfiguration", &["s3:PutLifecycleConfiguration"]),
    ("GetBucketLifecycleConfiguration", &["s3:GetLifecycleConfiguration"]),
    ("DeleteBucketLifecycle", &["s3:PutLifecycleConfiguration"]),
    ("DeleteBucketTagging", &["s3:PutBucketTagging"]),
    ("GetBucketEncryption", &["s3:GetEncryptionConfiguration"]),
    ("GetBucketReplication", &["s3:GetReplicationConfiguration"]),
    ("GetBucketNotificationConfiguration", &["s3:GetBucketNotification"]),
    ("GetBucketAccelerateConfiguration", &["s3:GetAccelerateConfiguration"]),
    ("GetObjectLockConfiguration", &["s3:GetBucketObjectLockConfiguration"]),
    ("GetPublicAccessBlock", &["s3:GetBucketPublicAccessBlock"]),
    ("PutPublicAccessBlock", &["s3:PutBucketPublicAccessBlock"]),
    ("DeletePublicAccessBlock", &["s3:PutBucketPublicAccessBlock"]),
    ("DeleteBucketOwnershipControls", &["s3:PutBucketOwnershipControls"]),
];

/// What an action is called when it names a version.
const VERSIONED: &[(&str, &str)] = &[
    ("s3:GetObject", "s3:GetObjectVersion"),
    ("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
    ("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    ("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
    ("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
    ("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    ("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
];

/// The actions that a policy may name.
const KNOWN: &[(&str, Level)] = &[
    ("s3:AbortMultipartUpload", Object),
    ("s3:BypassGovernanceRetention", Object),
    ("s3:CreateBucket", Bucket),
    ("s3:DeleteBucket", Bucket),
    ("s3:DeleteBucketPolicy", Bucket),
    ("s3:DeleteBucketWebsite", Bucket),
    ("s3:DeleteObject", Object),
    ("s3:DeleteObjectTagging", Object),
    ("s3:DeleteObjectVersion", Object),
    ("s3:DeleteObjectVersionTagging", Object),
    ("s3:GetAccelerateConfiguration", Bucket),
    ("s3:GetAnalyticsConfiguration", Bucket),
    ("s3:GetBucketAcl", Bucket),
    ("s3:GetBucketCORS", Bucket),
    ("s3:GetBucketLocation", Bucket),
    ("s3:GetBucketLogging", Bucket),
    ("s3:GetBucketNotification", Bucket),
    ("s3:GetBucketObjectLockConfiguration", Bucket),
    ("s3:GetBucketOwnershipControls", Bucket),
    ("s3:GetBucketPolicy", Bucket),
    ("s3:GetBucketPolicyStatus", Bucket),
    ("s3:GetBucketPublicAccessBlock", Bucket),
    ("s3:GetBucketRequestPayment", Bucket),
    ("s3:GetBucketTagging", Bucket),
    ("s3:GetBucketVersioning", Bucket),
    ("s3:GetBucketWebsite", Bucket),
    ("s3:GetEncryptionConfiguration", Bucket),
    ("s3:GetInventoryConfiguration", Bucket),
    ("s3:GetLifecycleConfiguration", Bucket),
    ("s3:GetMetricsConfiguration", Bucket),
    ("s3:GetObject", Object),
    ("s3:GetObjectAcl", Object),
    ("s3:GetObjectAttributes", Object),
    ("s3:GetObjectLegalHold", Object),
    ("s3:GetObjectRetention", Object),
    ("s3:GetObjectTagging", Object),
    ("s3:GetObjectTorrent", Object),
    ("s3:GetObjectVersion", Object),
    ("s3:GetObjectVersionAcl", Object),
    ("s3:GetObjectVersionAttributes", Object),
    ("s3:GetObjectVersionTagging", Object),
    ("s3:GetReplicationConfiguration", Bucket),
    ("s3:ListBucket", Bucket),
    ("s3:ListBucketMultipartUploads", Bucket),
    ("s3:ListBucketVersions", Bucket),
    ("s3:ListMultipartUploadParts", Object),
    ("s3:PutAccelerateConfiguration", Bucket),
    ("s3:PutBucketAcl", Bucket),
    ("s3:PutBucketCORS", Bucket),
    ("s3:PutBucketLogging", Bucket),
    ("s3:PutBucketNotification", Bucket),
    ("s3:PutBucketObjectLockConfiguration", Bucket),
    ("s3:PutBucketOwnershipControls", Bucket),
    ("s3:PutBucketPolicy", Bucket),
    ("s3:PutBucketPublicAccessBlock", Bucket),
    ("s3:PutBucketRequestPayment", Bucket),
    ("s3:PutBucketTagging", Bucket),
    ("s3:PutBucketVersioning", Bucket),
    ("s3:PutBucketWebsite", Bucket),
    ("s3:PutEncryptionConfiguration", Bucket),
    ("s3:PutLifecycleConfiguration", Bucket),
    ("s3:PutObject", Object),
    ("s3:PutObjectAcl", Object),
    ("s3:PutObjectLegalHold", Object),
    ("s3:PutObjectRetention", Object),
    ("s3:PutObjectTagging", Object),
    ("s3:PutObjectVersionAcl", Object),
    ("s3:PutObjectVersionTagging", Object),
    ("s3:PutReplicationConfiguration", Bucket),
    ("s3:RestoreObject", Object),
];

/// The actions of an operation, by the name that s3s has for it. `version`: the request names one.
pub fn actions_of(operation: &str, version: bool) -> Vec<String> {
    let named = OPERATIONS.iter().find(|(name, _)| *name == operation);
    let own = format!("s3:{operation}");
    let actions: Vec<&str> = named.map_or_else(|| vec![own.as_str()], |(_, actions)| actions.to_vec());
    actions.into_iter().map(|action| if version { versioned(action) } else { action }.to_owned()).collect()
}

/// The action on a version instead of the object as it is now.
pub fn versioned(action: &str) -> &str {
    VERSIONED.iter().find(|(plain, _)| *plain == action).map_or(action, |(_, versioned)| versioned)
}

/// The levels of the actions that a pattern names; none: there is no such action.
pub fn levels(pattern: &str) -> Vec<Level> {
    let fits = |(name, level): &(&str, Level)| names(pattern, name).then_some(*level);
    let mut levels: Vec<Level> = KNOWN.iter().filter_map(fits).collect();
    levels.dedup();
    levels
}

/// Does this pattern of a policy name this action?
pub fn names(pattern: &str, action: &str) -> bool {
    crate::policy::pattern::is_like(pattern, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_take_the_actions_of_the_same_meaning() {
        let check = |operation: &str, version: bool, want: &[&str]| {
            assert_eq!(actions_of(operation, version), want, "{operation}");
        };
        check("GetObject", false, &["s3:GetObject"]);
        check("HeadObject", true, &["s3:GetObjectVersion"]);
        check("GetBucketAcl", false, &["s3:GetBucketAcl"]);
        check("ListParts", false, &["s3:ListMultipartUploadParts"]);
        check("GetObjectAttributes", true, &["s3:GetObjectVersion", "s3:GetObjectVersionAttributes"]);
    }

    #[test]
    fn every_action_that_an_operation_takes_can_be_named() {
        let all = OPERATIONS.iter().flat_map(|(_, actions)| actions.iter().copied());
        let all = all.chain(VERSIONED.iter().flat_map(|(plain, versioned)| [*plain, *versioned]));
        for action in all.filter(|action| *action != "s3:ListAllMyBuckets") {
            assert_eq!(levels(action).len(), 1, "{action}");
        }
        assert!(levels("s3:GetObjekt").is_empty());
        assert_eq!(levels("s3:getobject*"), [Level::Object]);
        assert!(levels("*").contains(&Level::Bucket));
    }
}
