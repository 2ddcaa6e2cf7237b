"""What suites for S3 servers look for at the edges of the protocol: parts, listings, refusals, conditions, signatures."""

import base64
import datetime
import email.header
import hashlib
import urllib.error
import urllib.parse
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from boto3_scenarios import bucket, client, refused, s3, same
from harness import ACCESS_KEY, ENDPOINT, SECRET_KEY, pattern, run, scenario, start_anew

start_anew()

PART = 5 << 20


def send(method, path, body=b"", headers=None, access=ACCESS_KEY, secret=SECRET_KEY, at=None, sent=None):
    """A request signed by hand: status, headers, body. `sent`: what goes out instead of what was signed."""
    request = AWSRequest(method=method, url=ENDPOINT + path, data=body, headers=headers or {})
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    signer = SigV4Auth(Credentials(access, secret), "s3", "us-east-1")
    if at is not None:
        signer._modify_request_before_signing = lambda request: None
        request.context["timestamp"] = at
        request.headers["X-Amz-Date"] = at
        text = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, text), request)
        signer._inject_signature_to_request(request, signature)
    else:
        signer.add_auth(request)
    # Signed as text, sent as the bytes of its UTF-8.
    headers = {name: value.encode().decode("latin-1") for name, value in request.headers.items()}
    return raw(method, path, body if sent is None else sent, headers)


def raw(method, path, body=b"", headers=None):
    request = urllib.request.Request(ENDPOINT + path, data=body or None, headers=headers or {}, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read()


def code(answer, status, name):
    same(answer[0], status)
    assert f"<Code>{name}</Code>".encode() in answer[2], answer[2]


def in_parts(name, key, sizes, numbers=None, **more):
    """An object uploaded in parts: its bytes and the answer to the completion."""
    upload = s3.create_multipart_upload(Bucket=name, Key=key, **more)["UploadId"]
    listed, whole = [], b""
    for index, size in enumerate(sizes):
        number = numbers[index] if numbers else index + 1
        body = pattern(size, number)
        got = s3.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=number, Body=body)
        listed.append({"PartNumber": number, "ETag": got["ETag"]})
        whole += body
    done = s3.complete_multipart_upload(Bucket=name, Key=key, UploadId=upload, MultipartUpload={"Parts": listed})
    return whole, done, upload, listed


@scenario
def parts_are_read_by_their_numbers():
    name = bucket()
    whole, done, _, _ = in_parts(name, "p", [PART, PART + 5, 9], numbers=[1, 2, 7])
    for number, start, end in [(1, 0, PART), (2, PART, 2 * PART + 5), (7, 2 * PART + 5, len(whole))]:
        got = s3.get_object(Bucket=name, Key="p", PartNumber=number)
        assert got["Body"].read() == whole[start:end]
        same((got["PartsCount"], got["ContentLength"], got["ETag"]), (3, end - start, done["ETag"]))
        same(got["ContentRange"], f"bytes {start}-{end - 1}/{len(whole)}")
        head = s3.head_object(Bucket=name, Key="p", PartNumber=number)
        same((head["PartsCount"], head["ContentLength"]), (3, end - start))
        same(head["ResponseMetadata"]["HTTPStatusCode"], 206)
    refused(416, "InvalidPartNumber", s3.get_object, Bucket=name, Key="p", PartNumber=3)
    refused(416, "InvalidPartNumber", s3.get_object, Bucket=name, Key="p", PartNumber=8)
    refused(400, "InvalidArgument", s3.get_object, Bucket=name, Key="p", PartNumber=0)
    refused(400, "InvalidArgument", s3.get_object, Bucket=name, Key="p", PartNumber=10001)
    refused(400, "InvalidRequest", s3.get_object, Bucket=name, Key="p", PartNumber=1, Range="bytes=0-1")
    refused(404, "NoSuchKey", s3.get_object, Bucket=name, Key="none", PartNumber=1)
    refused(412, "PreconditionFailed", s3.get_object, Bucket=name, Key="p", PartNumber=1, IfMatch='"nope"')
    s3.put_object(Bucket=name, Key="single", Body=b"bytes")
    got = s3.get_object(Bucket=name, Key="single", PartNumber=1)
    same((got["Body"].read(), "PartsCount" in got), (b"bytes", False))
    refused(416, "InvalidPartNumber", s3.get_object, Bucket=name, Key="single", PartNumber=2)


@scenario
def attributes_tell_of_parts():
    name = bucket()

    def parts(key, **more):
        return s3.get_object_attributes(Bucket=name, Key=key, ObjectAttributes=["ObjectParts"], **more)["ObjectParts"]

    # Parts without checksums are counted only.
    in_parts(name, "p", [PART, PART, 10])
    same(parts("p"), {"TotalPartsCount": 3})
    same(parts("p", MaxParts=1), {"TotalPartsCount": 3})
    upload = s3.create_multipart_upload(Bucket=name, Key="s", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    target = {"Bucket": name, "Key": "s", "UploadId": upload["UploadId"]}
    listed = []
    for number, size in [(1, PART), (2, PART), (3, 10)]:
        got = s3.upload_part(**target, PartNumber=number, Body=pattern(size, number), ChecksumAlgorithm="CRC32")
        listed.append({"PartNumber": number, "ETag": got["ETag"], "ChecksumCRC32": got["ChecksumCRC32"]})
    s3.complete_multipart_upload(**target, MultipartUpload={"Parts": listed})
    got = parts("s")
    same((got["TotalPartsCount"], got["IsTruncated"]), (3, False))
    same([(part["PartNumber"], part["Size"], part["ChecksumCRC32"]) for part in got["Parts"]],
         [(part["PartNumber"], size, part["ChecksumCRC32"]) for part, size in zip(listed, [PART, PART, 10])])
    got = parts("s", MaxParts=1, PartNumberMarker=1)
    same([part["PartNumber"] for part in got["Parts"]], [2])
    same((got["IsTruncated"], got["NextPartNumberMarker"], got["PartNumberMarker"]), (True, 2, 1))


@scenario
def heads_of_ranges_are_heads_of_ranges():
    name = bucket()
    s3.put_object(Bucket=name, Key="r", Body=b"0123456789")
    head = s3.head_object(Bucket=name, Key="r", Range="bytes=2-4")
    same((head["ContentLength"], head["ContentRange"]), (3, "bytes 2-4/10"))
    same(head["ResponseMetadata"]["HTTPStatusCode"], 206)
    refused(416, "416", s3.head_object, Bucket=name, Key="r", Range="bytes=10-")
    s3.put_object(Bucket=name, Key="empty", Body=b"")
    refused(416, "InvalidRange", s3.get_object, Bucket=name, Key="empty", Range="bytes=0-5")


@scenario
def uploads_complete_once_and_may_be_told_twice():
    name = bucket()
    _, done, upload, listed = in_parts(name, "p", [PART, 7])
    again = s3.complete_multipart_upload(Bucket=name, Key="p", UploadId=upload, MultipartUpload={"Parts": listed})
    same(again["ETag"], done["ETag"])
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, Bucket=name, Key="p", UploadId=upload)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, Bucket=name, Key="p", UploadId="nonsense")
    upload = s3.create_multipart_upload(Bucket=name, Key="q")["UploadId"]
    target = {"Bucket": name, "Key": "q", "UploadId": upload}
    for number in [0, -1, 10001]:
        refused(400, "InvalidArgument", s3.upload_part, **target, PartNumber=number, Body=b"x")
    first = s3.upload_part(**target, PartNumber=10000, Body=b"last")["ETag"]
    refused(400, "InvalidPart", s3.complete_multipart_upload, **target,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first}]})
    refused(400, "InvalidPart", s3.complete_multipart_upload, **target,
            MultipartUpload={"Parts": [{"PartNumber": 10000, "ETag": '"' + "0" * 32 + '"'}]})
    s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [{"PartNumber": 10000, "ETag": first}]})
    same(s3.get_object(Bucket=name, Key="q")["Body"].read(), b"last")


@scenario
def parts_may_be_sent_again():
    name = bucket()
    upload = s3.create_multipart_upload(Bucket=name, Key="p")["UploadId"]
    target = {"Bucket": name, "Key": "p", "UploadId": upload}
    old = s3.upload_part(**target, PartNumber=1, Body=b"first")["ETag"]
    new = s3.upload_part(**target, PartNumber=1, Body=b"second")["ETag"]
    refused(400, "InvalidPart", s3.complete_multipart_upload, **target,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": old}]})
    s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": new.strip('"')}]})
    same(s3.get_object(Bucket=name, Key="p")["Body"].read(), b"second")


@scenario
def completions_obey_conditions():
    name = bucket()
    s3.put_object(Bucket=name, Key="c", Body=b"x")
    upload = s3.create_multipart_upload(Bucket=name, Key="c")["UploadId"]
    target = {"Bucket": name, "Key": "c", "UploadId": upload}
    tag = s3.upload_part(**target, PartNumber=1, Body=b"y")["ETag"]
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": tag}]}}
    refused(412, "PreconditionFailed", s3.complete_multipart_upload, **target, **parts, IfNoneMatch="*")
    refused(412, "PreconditionFailed", s3.complete_multipart_upload, **target, **parts, IfMatch='"nope"')
    s3.complete_multipart_upload(**target, **parts, IfMatch=s3.head_object(Bucket=name, Key="c")["ETag"])


@scenario
def copied_parts_obey_conditions():
    name = bucket()
    put = s3.put_object(Bucket=name, Key="s", Body=pattern(1000))
    upload = s3.create_multipart_upload(Bucket=name, Key="t")["UploadId"]
    target = {"Bucket": name, "Key": "t", "UploadId": upload, "PartNumber": 1, "CopySource": f"{name}/s"}
    refused(412, "PreconditionFailed", s3.upload_part_copy, **target, CopySourceIfMatch='"nope"')
    refused(412, "PreconditionFailed", s3.upload_part_copy, **target, CopySourceIfNoneMatch=put["ETag"])
    refused(404, "NoSuchKey", s3.upload_part_copy, **{**target, "CopySource": f"{name}/none"})
    refused(404, "NoSuchUpload", s3.upload_part_copy, **{**target, "UploadId": "nonsense"})
    for wrong in ["bytes=0", "bytes=5-2", "0-5", "bytes=-5"]:
        refused(400, "InvalidArgument", s3.upload_part_copy, **target, CopySourceRange=wrong)
    got = s3.upload_part_copy(**target, CopySourceIfMatch=put["ETag"], CopySourceRange="bytes=0-999")
    assert got["CopyPartResult"]["ETag"] and got["CopyPartResult"]["LastModified"]


@scenario
def copies_obey_conditions_in_time():
    name = bucket()
    put = s3.put_object(Bucket=name, Key="s", Body=b"x")
    when = s3.head_object(Bucket=name, Key="s")["LastModified"]
    hour = datetime.timedelta(hours=1)
    target = {"Bucket": name, "Key": "t", "CopySource": f"{name}/s"}
    refused(412, "PreconditionFailed", s3.copy_object, **target, CopySourceIfUnmodifiedSince=when - hour)
    refused(412, "PreconditionFailed", s3.copy_object, **target, CopySourceIfModifiedSince=when)
    s3.copy_object(**target, CopySourceIfUnmodifiedSince=when + hour)
    s3.copy_object(**target, CopySourceIfModifiedSince=when - hour)
    s3.copy_object(**target, CopySourceIfMatch=put["ETag"], CopySourceIfUnmodifiedSince=when - hour)
    refused(412, "PreconditionFailed", s3.copy_object, **target, IfNoneMatch="*")
    refused(400, "InvalidArgument", s3.copy_object, **target, MetadataDirective="MERGE")


@scenario
def deletions_obey_conditions():
    name = bucket()
    put = s3.put_object(Bucket=name, Key="d", Body=b"x")
    refused(412, "PreconditionFailed", s3.delete_object, Bucket=name, Key="d", IfMatch='"nope"')
    s3.head_object(Bucket=name, Key="d")
    objects = [{"Key": "d", "ETag": '"nope"'}]
    got = s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
    same([(error["Key"], error["Code"]) for error in got["Errors"]], [("d", "PreconditionFailed")])
    s3.delete_object(Bucket=name, Key="d", IfMatch=put["ETag"])
    refused(404, "404", s3.head_object, Bucket=name, Key="d")


@scenario
def listings_hold_at_their_edges():
    name = bucket()
    keys = ["a", "a/", "a/b", "a//c", "b\u00e4", "b z", "c&d", "z\U0001f600", "\uffee", "\x07bell"]
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=b"")
    order = sorted(keys, key=lambda key: key.encode())
    for lister in [s3.list_objects, s3.list_objects_v2]:
        same([entry["Key"] for entry in lister(Bucket=name, EncodingType="url")["Contents"]],
             [urllib.parse.quote(key, safe="/-_.~") for key in order])
        none = lister(Bucket=name, MaxKeys=0)
        same((none["IsTruncated"], none["MaxKeys"], "Contents" in none), (False, 0, False))
        same(lister(Bucket=name, MaxKeys=5000)["MaxKeys"], 1000)
        same("Contents" in lister(Bucket=name, Prefix="none"), False)
        refused(400, "InvalidArgument", lister, Bucket=name, MaxKeys=-1)
        refused(400, "InvalidArgument", lister, Bucket=name, EncodingType="base64")
        folded = lister(Bucket=name, Delimiter="/", Prefix="a/")
        same([entry["Key"] for entry in folded["Contents"]], ["a/", "a/b"])
        same([entry["Prefix"] for entry in folded["CommonPrefixes"]], ["a//"])
    for query in ["max-keys=x", "list-type=2&max-keys=x", "max-keys=99999999999"]:
        code(send("GET", f"/{name}?{query}"), 400, "InvalidArgument")
    folded = s3.list_objects(Bucket=name, Delimiter="/", Marker="a", MaxKeys=1, EncodingType="url")
    same(([entry["Prefix"] for entry in folded["CommonPrefixes"]], folded["NextMarker"]), (["a/"], "a/"))
    rest = s3.list_objects(Bucket=name, Delimiter="/", Marker="a/", MaxKeys=1)
    same([entry["Key"] for entry in rest["Contents"]], ["b z"])
    by_name = s3.list_objects_v2(Bucket=name, Delimiter="a")
    same([entry["Prefix"] for entry in by_name["CommonPrefixes"]], ["a"])
    after = s3.list_objects_v2(Bucket=name, StartAfter="b z", MaxKeys=1)
    same((after["Contents"][0]["Key"], after["StartAfter"]), ("b\u00e4", "b z"))
    token = after["NextContinuationToken"]
    rest = s3.list_objects_v2(Bucket=name, ContinuationToken=token, StartAfter="zzz")
    same((rest["Contents"][0]["Key"], rest["ContinuationToken"]), ("c&d", token))
    assert "Owner" not in rest["Contents"][0]
    assert s3.list_objects_v2(Bucket=name, FetchOwner=True)["Contents"][0]["Owner"]["ID"]
    assert s3.list_objects(Bucket=name)["Contents"][0]["Owner"]["ID"]
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=name, ContinuationToken="")


@scenario
def buckets_are_listed_in_pages():
    names = sorted(bucket() for _ in range(5))
    prefix = "boto-"
    seen, token = [], {}
    while True:
        page = s3.list_buckets(MaxBuckets=2, Prefix=prefix, **token)
        assert len(page["Buckets"]) <= 2
        same(page["Prefix"], prefix)
        seen += [entry["Name"] for entry in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    same(seen, sorted(seen))
    assert set(names) <= set(seen)
    for wrong in ["0", "10001", "x"]:
        code(send("GET", f"/?max-buckets={wrong}"), 400, "InvalidArgument")
    refused(400, "InvalidArgument", s3.list_buckets, ContinuationToken="nonsense")


@scenario
def names_of_buckets_follow_the_rules():
    for name in ["ab", "a" * 64, "Upper", "under_score", "-dash", "dash-", "dot..dot", "192.168.0.1", "xn--a",
                 "a-s3alias", "dot.-dash"]:
        code(send("PUT", f"/{name}"), 400, "InvalidBucketName")
    for name in ["abc", "a.b.c", "123", "a" * 63]:
        name = name if name != "abc" else bucket()
        assert send("PUT", f"/{name}")[0] in (200, 409)
    head = s3.head_bucket(Bucket=bucket())
    same(head["BucketRegion"], "us-east-1")
    same(head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"], "us-east-1")
    code(send("GET", "/never-made-at-all?location"), 404, "NoSuchBucket")


@scenario
def metadata_may_be_any_text():
    name = bucket()
    s3.put_object(Bucket=name, Key="m", Body=b"", Metadata={"Upper": "A b", "empty": ""})
    same(s3.head_object(Bucket=name, Key="m")["Metadata"], {"upper": "A b", "empty": ""})
    # What is not ASCII travels as encoded words, or as the bytes of its UTF-8.
    word = email.header.Header("grüße 日本", "utf-8").encode()
    s3.put_object(Bucket=name, Key="w", Body=b"", Metadata={"word": word})
    same(s3.head_object(Bucket=name, Key="w")["Metadata"]["word"], word)
    same(send("PUT", f"/{name}/r", b"x", headers={"x-amz-meta-word": "grüße"})[0], 200)
    # AWS gives them back as encoded words, whichever way they came.
    same(send("HEAD", f"/{name}/r")[1]["x-amz-meta-word"], "=?UTF-8?B?Z3LDvMOfZQ==?=")


@scenario
def digests_are_looked_at():
    name = bucket()
    md5 = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    same(send("PUT", f"/{name}/k", b"body", {"Content-MD5": md5})[0], 200)
    for wrong in ["", "short", "AAAA", "not base64!"]:
        code(send("PUT", f"/{name}/k", b"body", {"Content-MD5": wrong}), 400, "InvalidDigest")
    code(send("PUT", f"/{name}/k", b"other", {"Content-MD5": md5}), 400, "BadDigest")


@scenario
def signatures_are_looked_at():
    name = bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    path = f"/{name}/k"
    code(send("GET", path, access="nobody"), 403, "InvalidAccessKeyId")
    code(send("GET", path, secret="wrong"), 403, "SignatureDoesNotMatch")
    now = datetime.datetime.now(datetime.timezone.utc)
    for hours in [-1, 1]:
        late = (now + datetime.timedelta(hours=hours)).strftime("%Y%m%dT%H%M%SZ")
        code(send("GET", path, at=late), 403, "RequestTimeTooSkewed")
    code(raw("GET", path, headers={"Authorization": "AWS4-HMAC-SHA256 nonsense"}), 400,
         "AuthorizationHeaderMalformed")
    code(raw("GET", path, headers={"Authorization": "AWS nonsense"}), 400, "InvalidArgument")
    code(raw("GET", path, headers={"amz-sdk-request": "1"}), 403, "AccessDenied")
    signer = client(signature_version="s3v4")
    url = signer.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"}, ExpiresIn=60)
    parts = urllib.parse.urlsplit(url)
    old = (now - datetime.timedelta(hours=2)).strftime("%Y%m%dT%H%M%SZ")
    query = dict(urllib.parse.parse_qsl(parts.query))
    query["X-Amz-Date"] = old
    query["X-Amz-Credential"] = f"{ACCESS_KEY}/{old[:8]}/us-east-1/s3/aws4_request"
    code(raw("GET", f"{path}?{urllib.parse.urlencode(query)}"), 403, "AccessDenied")
    query["X-Amz-Expires"] = "604801"
    code(raw("GET", f"{path}?{urllib.parse.urlencode(query)}"), 400, "AuthorizationQueryParametersError")
    del query["X-Amz-Signature"]
    code(raw("GET", f"{path}?{urllib.parse.urlencode(query)}"), 400, "AuthorizationQueryParametersError")


@scenario
def many_deletions_are_counted():
    name = bucket()

    def delete(inner):
        body = f"<Delete>{inner}</Delete>".encode()
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        return send("POST", f"/{name}?delete", body, {"Content-MD5": md5})

    objects = "".join(f"<Object><Key>k{i}</Key></Object>" for i in range(1000))
    same(delete(objects)[0], 200)
    code(delete(objects + "<Object><Key>one-more</Key></Object>"), 400, "MalformedXML")
    code(delete(""), 400, "MalformedXML")
    code(delete("<Object>"), 400, "MalformedXML")
    quiet = delete(objects + "<Quiet>true</Quiet>")
    same((quiet[0], b"<Deleted>" in quiet[2]), (200, False))


@scenario
def answers_may_be_renamed_by_those_who_sign():
    name = bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"x", ContentType="text/plain")
    when = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    got = s3.get_object(Bucket=name, Key="k", ResponseContentType="a/b", ResponseExpires=when,
                        ResponseContentDisposition='attachment; filename="a.txt"')
    same((got["ContentType"], got["ContentDisposition"]), ("a/b", 'attachment; filename="a.txt"'))
    same(got["ResponseMetadata"]["HTTPHeaders"]["expires"], "Tue, 01 Jan 2030 00:00:00 GMT")


if __name__ == "__main__":
    run("protocol")
