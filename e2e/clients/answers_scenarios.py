"""Answers word for word: what nobody configured, what is not there, and how each is refused, in one table each."""

import base64
import datetime
import hashlib
import http.client
import json
import re
import urllib.parse

import boto3
from botocore.client import Config

from boto3_scenarios import bucket, client, refused, s3, same
from harness import ACCESS_KEY, ENDPOINT, SECRET_KEY, run, scenario, start_anew
from protocol_scenarios import code, raw, send

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


def element(answer, name):
    found = re.search(rf"<{name}>(.*?)</{name}>".encode(), answer[2])
    return found and found[1].decode().replace("&quot;", '"')


@scenario
def refusals_name_what_they_are_about():
    name = bucket()
    s3.put_object(Bucket=name, Key="o", Body=b"0123456789")
    for method, where, headers, want in [
        ("GET", "-none/k", {}, {"Code": "NoSuchBucket", "BucketName": name + "-none"}),
        ("GET", "/a/none", {}, {"Code": "NoSuchKey", "Key": "a/none"}),
        ("GET", "?policy", {}, {"Code": "NoSuchBucketPolicy", "BucketName": name}),
        ("GET", "/o?uploadId=none", {}, {"Code": "NoSuchUpload", "UploadId": "none"}),
        ("GET", "/o", {"Range": "bytes=10-"}, {"RangeRequested": "bytes=10-", "ActualObjectSize": "10"}),
        ("GET", "/o", {"If-Match": '"x"'}, {"Code": "PreconditionFailed", "Condition": "If-Match"}),
        ("PUT", "/o", {"If-None-Match": "*"}, {"Code": "PreconditionFailed", "Condition": "If-None-Match"}),
        ("GET", "/" + "k" * 1030, {}, {"Size": "1030", "MaxSizeAllowed": "1024"}),
        ("POST", "/o", {}, {"Code": "MethodNotAllowed", "Method": "POST", "ResourceType": "OBJECT"}),
        ("GET", "/o?versionId=x", {}, {"ArgumentName": "versionId", "ArgumentValue": "x"}),
        ("GET", "/o?partNumber=x", {}, {"ArgumentName": "partNumber", "ArgumentValue": "x"}),
        ("GET", "?max-keys=-1", {}, {"ArgumentName": "max-keys", "ArgumentValue": "-1",
                                     "Message": "Argument max-keys must be an integer between 0 and 2147483647"}),
        ("GET", "?max-keys=x", {}, {"ArgumentName": "max-keys", "ArgumentValue": "x"}),
        ("GET", "?acl&tagging", {}, {"Message": "Conflicting query string parameters: acl, tagging"}),
        ("GET", "/o?uploads", {}, {"Message": "Key is not expected for the GET method ?uploads subresource"}),
        ("GET", "/o?versions", {}, {"Message": "There is no such thing as the ?versions sub-resource for a key"}),
        ("GET", "/o?attributes", {}, {
            "Code": "InvalidRequest", "Message": "The x-amz-object-attributes header specifying the attributes to be "
            "retrieved is either missing or empty"}),
        ("PUT", "/o?partNumber=1", {}, {"ArgumentName": "partNumber", "Message": "This operation does not accept "
                                        "partNumber without uploadId"}),
        ("PUT", "?tagging", {"x-amz-copy-source": "a/b"}, {"ArgumentName": "x-amz-copy-source", "Message": "You can "
                                                           "only specify a copy source header for copy requests."}),
    ]:
        answer = send(method, f"/{name}{where}", headers=headers)
        same({key: element(answer, key) for key in want}, want)
    answer = send("GET", f"/{name}", access="nobody")
    same((element(answer, "Code"), element(answer, "AWSAccessKeyId")), ("InvalidAccessKeyId", "nobody"))


@scenario
def conditions_that_writes_do_not_have_are_not_implemented():
    name = bucket()
    s3.put_object(Bucket=name, Key="o", Body=b"old")
    upload = s3.create_multipart_upload(Bucket=name, Key="o")["UploadId"]
    tag = s3.upload_part(Bucket=name, Key="o", UploadId=upload, PartNumber=1, Body=b"new")["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    both = {"If-Match": '"x"', "If-None-Match": "*"}
    for headers in [{"If-None-Match": '"x"'}, {"If-None-Match": "x"}, both]:
        for method, where, body, more in [
            ("PUT", "/o", b"new", {}), ("POST", f"/o?uploadId={upload}", document, {}),
            ("PUT", "/o", b"", {"x-amz-copy-source": f"/{name}/o", "x-amz-metadata-directive": "REPLACE"}),
        ]:
            told(send(method, f"/{name}{where}", body, {**headers, **more}), 501, "NotImplemented",
                 "A header you provided implies functionality that is not implemented")
    same(s3.get_object(Bucket=name, Key="o")["Body"].read(), b"old")
    # Any text may be an ETag.
    for text in ["not_quoted", '"half', '"two" "tags"'.replace('" "', "_")]:
        told(send("GET", f"/{name}/o", headers={"If-Match": text}), 412, "PreconditionFailed")
        same(send("GET", f"/{name}/o", headers={"If-None-Match": text})[0], 200)
        told(send("DELETE", f"/{name}/o", headers={"If-Match": text}), 412, "PreconditionFailed")
        copied = {"x-amz-copy-source": f"/{name}/o", "x-amz-copy-source-if-match": text}
        told(send("PUT", f"/{name}/c", headers=copied), 412, "PreconditionFailed")


@scenario
def documents_are_those_that_were_signed():
    name = bucket()
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    sent = tags.replace(b"<Value>b", b"<Value>c")
    want = (400, "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.")
    for method, where, signed, body in [
        ("PUT", f"/{name}?tagging", tags, sent), ("PUT", f"/{name}/k", b"signed", b"bytes!"),
        ("PUT", f"/{name}-other", b"signed", b""),
    ]:
        told(send(method, where, signed, sent=body), *want)
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=name)
    assert f"{name}-other" not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    told(send("PUT", f"/{name}?tagging", tags, sent=sent, secret="wrong"), 403, "SignatureDoesNotMatch")
    same(send("PUT", f"/{name}?tagging", tags)[0], 204)


@scenario
def heads_choose_their_headers_as_reads_do():
    name = bucket()
    s3.put_object(Bucket=name, Key="o", Body=b"x", ContentType="text/plain")
    chosen = "response-cache-control=no-store&response-content-type=a%2Fb&response-expires=whenever"
    for method in ["GET", "HEAD"]:
        status, headers, _ = send(method, f"/{name}/o?{chosen}")
        same((status, headers["Cache-Control"], headers["Content-Type"], headers["Expires"]),
             (200, "no-store", "a/b", "whenever"))
        same(headers.get_all("Content-Type"), ["a/b"])
    everything = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
    same(raw("GET", f"/{name}/o")[::2], (200, b"x"))
    for query in ["response-content-type=a", "response-expires=never"]:
        told(raw("GET", f"/{name}/o?{query}"), 400, "InvalidRequest",
             "Request specific response headers cannot be used for anonymous GET requests.")
        same(raw("HEAD", f"/{name}/o?{query}")[0], 400)


@scenario
def buckets_are_made_with_tags():
    name = bucket() + "-tagged"

    def make(*tags):
        inner = "".join(f"<Tag><Key>{key}</Key><Value>v</Value></Tag>" for key in tags)
        body = f"<CreateBucketConfiguration><Tags>{inner}</Tags></CreateBucketConfiguration>"
        return send("PUT", f"/{name}", body.encode())

    told(make("a", "a"), 400, "InvalidTag")
    told(make(*[f"k{number}" for number in range(51)]), 400, "BadRequest")
    refused(404, "404", s3.head_bucket, Bucket=name)
    same(make("a", "b")[0], 200)
    same([tag["Key"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]], ["a", "b"])


@scenario
def uploads_without_a_bucket_miss_the_bucket():
    name = bucket() + "-none"
    part = "<Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>"
    document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    for method, query, body in [("GET", "", b""), ("DELETE", "", b""), ("POST", "", document),
                                ("PUT", "&partNumber=1", b"x")]:
        told(send(method, f"/{name}/k?uploadId=u{query}", body), 404, "NoSuchBucket")
    name = bucket()
    told(send("PUT", f"/{name}/k", headers={"x-amz-copy-source": "nothing"}), 400, "InvalidArgument",
         "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    s3.put_object(Bucket=name, Key="o", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=name, Key="u")["UploadId"]
    copied = {"x-amz-copy-source": f"/{name}/o", "x-amz-copy-source-range": "bytes=0-10"}
    told(send("PUT", f"/{name}/u?uploadId={upload}&partNumber=1", headers=copied), 400, "InvalidArgument",
         "Range specified is not valid for source object of size: 10")


@scenario
def metadata_that_comes_twice_is_one_list():
    name = bucket()
    where = urllib.parse.urlsplit(ENDPOINT)
    url = client(signature_version="s3v4").generate_presigned_url(
        "put_object", {"Bucket": name, "Key": "o", "Metadata": {"a": "1,2"}})
    url = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    for header, value in [("Content-Length", "0"), ("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")]:
        connection.putheader(header, value)
    connection.endheaders()
    answer = connection.getresponse()
    same((answer.status, answer.read()), (200, b""))
    connection.close()
    same(s3.head_object(Bucket=name, Key="o")["Metadata"], {"a": "1,2"})


@scenario
def credentials_say_what_is_wrong_with_them():
    name = bucket()
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d")
    start = "The authorization header is malformed; "
    for credential, says in [
        (f"a/{day}/r/ec2/aws4_request", 'incorrect service "ec2". This endpoint belongs to "s3".'),
        (f"a/{day}/r/s3/aws5", 'incorrect terminal "aws5". This endpoint uses "aws4_request".'),
        ("a/today/r/s3/aws4_request",
         'incorrect date format "today". This date in the credential must be in the format "yyyyMMdd".'),
    ]:
        header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"
        answer = raw("GET", f"/{name}", headers={"Authorization": header, "x-amz-date": f"{day}T000000Z"})
        same((answer[0], element(answer, "Message")), (400, start + says))
        query = urllib.parse.urlencode({
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": credential, "X-Amz-Date": f"{day}T000000Z",
            "X-Amz-Expires": 60, "X-Amz-SignedHeaders": "host", "X-Amz-Signature": 0})
        answer = raw("GET", f"/{name}?{query}")
        same((element(answer, "Code"), element(answer, "Message")),
             ("AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter; " + says))
    # A store has one place, and any region is its name.
    elsewhere = boto3.client("s3", endpoint_url=ENDPOINT, region_name="eu-west-1",
                             config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
    s3.put_object(Bucket=name, Key="o", Body=b"x")
    same(elsewhere.get_object(Bucket=name, Key="o")["Body"].read(), b"x")
    url = elsewhere.generate_presigned_url("get_object", {"Bucket": name, "Key": "o"})
    same(raw("GET", url[len(ENDPOINT):])[::2], (200, b"x"))
    # Keys that are lent for a while are not known.
    lent = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1", aws_session_token="lent",
                        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY)
    refused(400, "InvalidToken", lent.list_objects_v2, Bucket=name)


@scenario
def rules_and_preflights_must_make_sense():
    name = bucket()

    def put(inner):
        rule = f"<AllowedOrigin>http://a.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>{inner}"
        body = f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>"
        return send("PUT", f"/{name}?cors", body.encode())

    for inner, says in [
        ("<AllowedHeader>*a*</AllowedHeader>", 'AllowedHeader "*a*" can not have more than one wildcard.'),
        ("<AllowedHeader>a b</AllowedHeader>", 'AllowedHeader "a b" contains invalid character.'),
        ("<ExposeHeader>x-*</ExposeHeader>", 'ExposeHeader "x-*" contains wildcard. We currently do not support '
                                             'wildcard for ExposeHeader.'),
    ]:
        answer = put(inner)
        same((answer[0], element(answer, "Code"), element(answer, "Message")), (400, "InvalidRequest", says))
    asked, named = "Access-Control-Request-Method", "Access-Control-Request-Headers"
    here, home = f"/{name}/k", {"Origin": "http://a.example"}
    told(raw("OPTIONS", here, headers={**home, asked: "GET"}), 403, "AccessForbidden",
         "CORSResponse: CORS is not enabled for this bucket.")
    same(put("<AllowedHeader>x-amz-*</AllowedHeader>")[0], 200)
    for path, headers, want in [
        (here, {asked: "GET"}, (400, "BadRequest", "Insufficient information. Origin request header needed.")),
        (here, home, (400, "BadRequest", "Invalid Access-Control-Request-Method: null")),
        (here, {**home, asked: "FOO"}, (400, "BadRequest", "Invalid Access-Control-Request-Method: FOO")),
        (f"/{name}-none/k", {**home, asked: "GET"}, (403, "AccessForbidden", "CORSResponse: Bucket not found")),
    ]:
        told(raw("OPTIONS", path, headers=headers), *want)
    answer = raw("OPTIONS", here, headers={**home, asked: "GET", named: "a b"})
    same(element(answer, "Message"), 'Access-Control-Request-Headers "a b" contains invalid character.')
    same(raw("OPTIONS", here, headers={**home, asked: "GET", named: "x-amz-date"})[0], 200)


@scenario
def documents_say_which_element_is_wrong():
    name = bucket()
    every = "<Filter><Prefix></Prefix></Filter>"
    positive = "action must be a positive integer"
    for inner, says in [
        (every + "<Expiration><Days>0</Days></Expiration>", f"'Days' for Expiration {positive}"),
        (every + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation>"
                 "</AbortIncompleteMultipartUpload>", f"'DaysAfterInitiation' for AbortIncompleteMultipartUpload {positive}"),
        (every + "<NoncurrentVersionExpiration><NoncurrentDays>0</NoncurrentDays></NoncurrentVersionExpiration>",
         f"'NoncurrentDays' for NoncurrentVersionExpiration {positive}"),
    ]:
        rule = f"<Rule><ID>r</ID><Status>Enabled</Status>{inner}</Rule>"
        body = f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode()
        told(send("PUT", f"/{name}?lifecycle", body), 400, "InvalidArgument", says)
    long = f"<Filter><Prefix>{'a' * 1025}</Prefix></Filter><Expiration><Days>1</Days></Expiration>"
    body = f"<LifecycleConfiguration><Rule><Status>Enabled</Status>{long}</Rule></LifecycleConfiguration>".encode()
    told(send("PUT", f"/{name}?lifecycle", body), 400, "InvalidRequest", "The maximum size of a prefix is 1024.")
    told(send("PUT", f"/{name}?versioning"), 400, "MissingRequestBodyError", "Request Body is empty")
    policy = json.dumps({"Version": "2012-10-17"}).encode()
    told(send("PUT", f"/{name}?policy", policy), 400, "MalformedPolicy", "Missing required field Statement")
    told(send("PUT", f"/{name}-none?policy", policy), 404, "NoSuchBucket")
    told(send("POST", f"/{name}/u?uploads", headers={"x-amz-checksum-type": "half"}), 400, "InvalidRequest",
         "Value for x-amz-checksum-type header is invalid.")
    target = {"Bucket": name, "Key": "u"}
    upload = s3.create_multipart_upload(**target, ChecksumAlgorithm="CRC32", ChecksumType="full_object")["UploadId"]
    crc = s3.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")["ChecksumCRC32"]
    part = f"<PartNumber>1</PartNumber><ETag>{hashlib.md5(b'x').hexdigest()}</ETag>"
    sums = f"<ChecksumCRC32>{crc}</ChecksumCRC32><ChecksumSHA1>AAAA</ChecksumSHA1>"
    complete = "<CompleteMultipartUpload><Part>{}</Part></CompleteMultipartUpload>"
    for inner, headers, want in [
        (part + sums, {}, ("InvalidArgument", "Invalid Base64 or multiple checksums present in request")),
        (part, {"x-amz-checksum-crc32": "AA"}, ("InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid.")),
        (part, {"x-amz-checksum-crc32": crc, "x-amz-checksum-sha1": "AA"},
         ("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")),
        (part, {"x-amz-checksum-crc32": "AAAAAA=="},
         ("BadDigest", "The CRC32 you specified did not match the calculated checksum.")),
    ]:
        told(send("POST", f"/{name}/u?uploadId={upload}", complete.format(inner).encode(), headers), 400, *want)


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
