"""Answers word for word: what nobody configured, what is not there, and how each is refused, in one table each."""

import base64
import hashlib
import http.client
import re
import urllib.parse

from boto3_scenarios import bucket, client, refused, s3, same
from harness import ENDPOINT, run, scenario, start_anew
from protocol_scenarios import code, send

start_anew()

LOCK = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
RETAIN = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
HOLD = "<LegalHold><Status>ON</Status></LegalHold>"
ENCRYPT = ("<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
           "</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>")
ACCELERATE = "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>"
PAYER = "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
SITE = "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>"
NO_LOCK = (400, "InvalidRequest", "Bucket is missing Object Lock Configuration")

# Where, what is sent, and the answer: status, code, and the sentence where AWS has one.
SUBRESOURCES = [
    ("GET", "?accelerate", "", (200, "<AccelerateConfiguration", None)),
    ("GET", "?cors", "", (404, "NoSuchCORSConfiguration", "The CORS configuration does not exist")),
    ("GET", "?encryption", "", (404, "ServerSideEncryptionConfigurationNotFoundError",
                                "The server side encryption configuration was not found")),
    ("GET", "?lifecycle", "", (404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")),
    ("GET", "?logging", "", (200, "<BucketLoggingStatus", None)),
    ("GET", "?notification", "", (200, "<NotificationConfiguration", None)),
    ("GET", "?object-lock", "", (404, "ObjectLockConfigurationNotFoundError",
                                 "Object Lock configuration does not exist for this bucket")),
    ("GET", "?policy", "", (404, "NoSuchBucketPolicy", "The bucket policy does not exist")),
    ("GET", "?policyStatus", "", (404, "NoSuchBucketPolicy", "The bucket policy does not exist")),
    ("GET", "?publicAccessBlock", "", (404, "NoSuchPublicAccessBlockConfiguration",
                                       "The public access block configuration was not found")),
    ("GET", "?replication", "", (404, "ReplicationConfigurationNotFoundError",
                                 "The replication configuration was not found")),
    ("GET", "?requestPayment", "", (200, "<Payer>BucketOwner</Payer>", None)),
    ("GET", "?tagging", "", (404, "NoSuchTagSet", "The TagSet does not exist")),
    ("GET", "?versioning", "", (200, "<VersioningConfiguration", None)),
    ("GET", "?website", "", (404, "NoSuchWebsiteConfiguration",
                             "The specified bucket does not have a website configuration")),
    *[("GET", f"?{name}", "", (501, "NotImplemented", None)) for name in [
        "analytics", "analytics&id=a", "intelligent-tiering", "inventory", "inventory&id=a", "metrics",
        "metrics&id=a", "metadataTable", "session"]],
    ("PUT", "?object-lock", LOCK, (501, "NotImplemented", None)),
    ("PUT", "?encryption", ENCRYPT, (501, "NotImplemented", None)),
    ("PUT", "?accelerate", ACCELERATE, (501, "NotImplemented", None)),
    ("PUT", "?requestPayment", PAYER, (501, "NotImplemented", None)),
    ("PUT", "?website", SITE, (501, "NotImplemented", None)),
    ("GET", "/o?retention", "", NO_LOCK),
    ("GET", "/o?legal-hold", "", NO_LOCK),
    ("PUT", "/o?retention", RETAIN, NO_LOCK),
    ("PUT", "/o?legal-hold", HOLD, NO_LOCK),
    ("GET", "/o?torrent", "", (501, "NotImplemented", None)),
    ("POST", "/o?restore", "<RestoreRequest><Days>1</Days></RestoreRequest>", (501, "NotImplemented", None)),
]


def told(answer, status, name, message=None):
    same(answer[0], status)
    if status < 300:
        assert name.encode() in answer[2], answer[2]
        return
    code(answer, status, name)
    if message is not None:
        found = re.search(rb"<Message>(.*?)</Message>", answer[2])
        same(found and found[1].decode().replace("&apos;", "'"), message)


@scenario
def what_is_not_configured_is_told_as_at_home():
    name = bucket()
    s3.put_object(Bucket=name, Key="o", Body=b"x")
    for method, where, body, want in SUBRESOURCES:
        told(send(method, f"/{name}{where}", body.encode()), *want)


@scenario
def headers_that_cannot_be_followed_are_refused():
    name = bucket()
    s3.put_object(Bucket=name, Key="o", Body=b"x")
    upload = s3.create_multipart_upload(Bucket=name, Key="u")["UploadId"]
    sse, customer = "x-amz-server-side-encryption", "x-amz-server-side-encryption-customer-"
    unknown, lock = (501, "NotImplemented"), (400, "InvalidRequest")
    copied = {"x-amz-copy-source": f"/{name}/o"}
    list_of = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>"
    writes = [("PUT", "/h", b"x", {}), ("POST", "/h?uploads", b"", {}), ("PUT", "/h", b"", copied)]
    reads = [("GET", "/o", b"", {})]
    parts = [("PUT", f"/u?partNumber=1&uploadId={upload}", b"x", {}),
             ("PUT", f"/u?partNumber=1&uploadId={upload}", b"", copied),
             ("POST", f"/u?uploadId={upload}", list_of, {})]
    for header, value, kinds, want in [
        (sse, "AES256", writes, unknown),
        (sse, "aws:kms", writes, unknown),
        (sse, "rot13", writes, (400, "InvalidArgument")),
        (sse, "AES256", reads, (400, "InvalidArgument")),
        (sse, "AES256", parts, (400, "InvalidArgument")),
        (sse + "-aws-kms-key-id", "k", writes + parts, unknown),
        (sse + "-context", "e30=", writes + parts, unknown),
        (sse + "-bucket-key-enabled", "true", writes + parts, unknown),
        (customer + "algorithm", "AES256", writes + parts, unknown),
        (customer + "key", "a2V5", writes + parts, unknown),
        (customer + "key-MD5", "a2V5", writes + parts, unknown),
        (customer + "algorithm", "AES256", reads, (400, "InvalidRequest")),
        ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256", writes[2:] + parts[1:2], unknown),
        ("x-amz-write-offset-bytes", "1", writes[:1], unknown),
        ("x-amz-object-lock-mode", "GOVERNANCE", writes, lock),
        ("x-amz-object-lock-legal-hold", "ON", writes, lock),
        ("x-amz-website-redirect-location", "here", writes, (400, "InvalidRedirectLocation")),
        ("x-amz-storage-class", "GOLD", writes, (400, "InvalidStorageClass")),
        ("x-amz-acl", "public-read", writes, (400, "AccessControlListNotSupported")),
    ]:
        for method, where, body, more in kinds:
            told(send(method, f"/{name}{where}", body, {**more, header: value}), *want)
    same(send("HEAD", f"/{name}/o", headers={customer + "algorithm": "AES256"})[0], 400)
    told(send("PUT", f"/{name}-l", headers={"x-amz-bucket-object-lock-enabled": "true"}), 501, "NotImplemented")
    told(send("PUT", f"/{name}-l", headers={"x-amz-object-ownership": "Nobody"}), 400, "InvalidArgument",
         "Invalid x-amz-object-ownership header: Nobody")
    # Nothing of all this was stored.
    same([entry["Key"] for entry in s3.list_objects_v2(Bucket=name)["Contents"]], ["o"])


@scenario
def refusals_say_what_they_say_at_home():
    name = bucket()
    etag = s3.put_object(Bucket=name, Key="o", Body=b"0123456789")["ETag"]
    upload = s3.create_multipart_upload(Bucket=name, Key="u")["UploadId"]
    listed = [s3.upload_part(Bucket=name, Key="u", UploadId=upload, PartNumber=number, Body=b"x")["ETag"]
              for number in [1, 2]]
    gone = ("The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
            "completed.")
    part = ("One or more of the specified parts could not be found.  The part may not have been uploaded, or the "
            "specified entity tag may not match the part's entity tag.")
    xml = "The XML you provided was not well-formed or did not validate against our published schema"

    def parts(*numbers):
        each = [f"<Part><PartNumber>{number}</PartNumber><ETag>{listed[min(number, 2) - 1]}</ETag></Part>"
                for number in numbers]
        return f"<CompleteMultipartUpload>{''.join(each)}</CompleteMultipartUpload>".encode()

    u, o, copied = f"/u?uploadId={upload}", "/o", {"x-amz-copy-source": f"/{name}/o"}
    for method, where, body, headers, want in [
        ("GET", "/none", b"", {}, (404, "NoSuchKey", "The specified key does not exist.")),
        ("GET", "/" + "k" * 1025, b"", {}, (400, "KeyTooLongError", "Your key is too long")),
        ("GET", o, b"", {"Range": "bytes=10-"}, (416, "InvalidRange", "The requested range is not satisfiable")),
        ("GET", o, b"", {"If-Match": '"x"'}, (412, "PreconditionFailed",
                                              "At least one of the pre-conditions you specified did not hold")),
        ("GET", o + "?versionId=", b"", {}, (400, "InvalidArgument", "Version id cannot be the empty string")),
        ("GET", o + "?versionId=x", b"", {}, (400, "InvalidArgument", "Invalid version id specified")),
        ("PUT", o, b"x", {"Content-MD5": "AAAA"}, (400, "InvalidDigest", "The Content-MD5 you specified was invalid.")),
        ("PUT", o, b"x", {"x-amz-meta-a": "v" * 2048},
         (400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")),
        ("PUT", o, b"", {**copied, "x-amz-metadata-directive": "X"},
         (400, "InvalidArgument", "Unknown metadata directive.")),
        ("PUT", o, b"", {**copied, "x-amz-tagging-directive": "X"},
         (400, "InvalidArgument", "Unknown tagging directive.")),
        ("PUT", "?tagging", b"<Tagging>", {}, (400, "MalformedXML", xml)),
        ("POST", "?delete", b"junk", {"Content-MD5": base64.b64encode(hashlib.md5(b"junk").digest()).decode()},
         (400, "MalformedXML", xml)),
        ("POST", u, parts(3), {}, (400, "InvalidPart", part)),
        ("POST", u, parts(2, 1), {}, (400, "InvalidPartOrder",
                                      "The list of parts was not in ascending order. Parts must be ordered by part number.")),
        ("POST", u, parts(1, 2), {}, (400, "EntityTooSmall",
                                      "Your proposed upload is smaller than the minimum allowed size")),
        ("DELETE", "/u?uploadId=none", b"", {}, (404, "NoSuchUpload", gone)),
        ("PUT", "/u?uploadId=none&partNumber=1", b"x", {}, (404, "NoSuchUpload", gone)),
        ("DELETE", "", b"", {}, (409, "BucketNotEmpty", "The bucket you tried to delete is not empty")),
        ("GET", "-none/k", b"", {}, (404, "NoSuchBucket", "The specified bucket does not exist")),
    ]:
        told(send(method, f"/{name}{where}", body, headers), *want)
    same(s3.head_object(Bucket=name, Key="o")["ETag"], etag)


@scenario
def uploads_tell_their_length():
    name = bucket()
    upload = s3.create_multipart_upload(Bucket=name, Key="u")["UploadId"]
    signer = client(signature_version="s3v4")
    where = urllib.parse.urlsplit(ENDPOINT)
    for call, arguments in [("put_object", {"Key": "o"}),
                            ("upload_part", {"Key": "u", "UploadId": upload, "PartNumber": 1})]:
        url = urllib.parse.urlsplit(signer.generate_presigned_url(call, {"Bucket": name, **arguments}))
        for headers, body in [({}, b""), ({"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n0\r\n\r\n")]:
            connection = http.client.HTTPConnection(where.hostname, where.port)
            connection.putrequest("PUT", f"{url.path}?{url.query}")
            for header, value in headers.items():
                connection.putheader(header, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            told((answer.status, answer.headers, answer.read()), 411, "MissingContentLength",
                 "You must provide the Content-Length HTTP header.")
            connection.close()
    refused(404, "404", s3.head_object, Bucket=name, Key="o")


if __name__ == "__main__":
    run("answers")
