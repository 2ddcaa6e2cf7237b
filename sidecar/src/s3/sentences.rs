//! What AWS says where it has one sentence for a code: suites and people compare them.

/// Code and sentence, as they leave.
const SENTENCES: &[(&str, &str)] = &[
    ("AccessControlListNotSupported", "The bucket does not allow ACLs"),
    (
        "BucketAlreadyOwnedByYou",
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    ("BucketNotEmpty", "The bucket you tried to delete is not empty"),
    ("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"),
    ("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"),
    ("IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    (
        "InvalidBucketAclWithObjectOwnership",
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
    ),
    ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    ("InvalidDigest", "The Content-MD5 you specified was invalid."),
    (
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified \
         entity tag may not match the part's entity tag.",
    ),
    (
        "InvalidPartOrder",
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    ("InvalidRange", "The requested range is not satisfiable"),
    ("InvalidStorageClass", "The storage class you specified is not valid"),
    ("KeyTooLongError", "Your key is too long"),
    (
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    ("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"),
    ("MissingContentLength", "You must provide the Content-Length HTTP header."),
    ("MissingRequestBodyError", "Request Body is empty"),
    ("NoSuchBucket", "The specified bucket does not exist"),
    ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
    ("NoSuchTagSet", "The TagSet does not exist"),
    (
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
         completed.",
    ),
    ("NoSuchVersion", "The specified version does not exist."),
    ("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    ("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket"),
    ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
    ("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    (
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing \
         method.",
    ),
];

/// The code of this document, and its sentence.
pub(super) fn of(document: &str) -> Option<(&'static str, &'static str)> {
    let (code, _) = document.split_once("<Code>")?.1.split_once("</Code>")?;
    SENTENCES.iter().find(|(known, _)| *known == code).copied()
}
