"""What S3 answers to requests that few clients send and every server meets: odd ranges, dates, numbers, headers, forms."""

import base64
import datetime
import hashlib
import re
import urllib.parse
import urllib.request
import zlib

from boto3_scenarios import bucket, refused, s3, same
from harness import ACCESS_KEY, ENDPOINT, SECRET_KEY, pattern, run, scenario, start_anew
from protocol_scenarios import PART, code, raw, send

start_anew()


def sum_of(body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def md5_of(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


@scenario
def ranges_that_cannot_be_followed_are_ignored():
    name = bucket()
    body = pattern(1024)
    s3.put_object(Bucket=name, Key="r", Body=body)
    s3.put_object(Bucket=name, Key="empty", Body=b"")
    for method in ["GET", "HEAD"]:
        for wrong in ["bytes=0-4,10-20", "bytes=0-4, 10-20", "items=0-4", "bytes", "bytes=", "bytes=-", "bytes=abc",
                      "bytes=5-2", "bytes=0-a"]:
            answer = send(method, f"/{name}/r", headers={"Range": wrong})
            same((answer[0], answer[1]["Content-Length"], answer[1]["Content-Range"]), (200, "1024", None))
        assert method == "HEAD" or answer[2] == body
        answer = send(method, f"/{name}/r", headers={"Range": "Bytes=2-3"})
        same((answer[0], answer[1]["Content-Range"]), (206, "bytes 2-3/1024"))
        same(send(method, f"/{name}/r", headers={"Range": "bytes=-5000"})[1]["Content-Range"], "bytes 0-1023/1024")
        for key, beyond in [("r", "bytes=1024-"), ("r", "bytes=-0"), ("r", "bytes=99999999999999999999-"),
                            ("empty", "bytes=0-0"), ("empty", "bytes=-5"), ("empty", "bytes=0-")]:
            same(send(method, f"/{name}/{key}", headers={"Range": beyond})[0], 416)


@scenario
def conditions_go_by_their_order():
    name = bucket()
    etag = s3.put_object(Bucket=name, Key="c", Body=b"x")["ETag"]
    when = s3.head_object(Bucket=name, Key="c")["LastModified"]
    text = [(when + datetime.timedelta(hours=hours)).strftime("%a, %d %b %Y %H:%M:%S GMT") for hours in [-1, 0, 1]]
    past, now, future = text

    def get(**headers):
        return send("GET", f"/{name}/c", headers={key.replace("_", "-"): value for key, value in headers.items()})[0]

    same(get(If_Match=etag, If_Unmodified_Since=past), 200)
    same(get(If_Match='"nope"', If_Unmodified_Since=future), 412)
    same(get(If_None_Match=etag, If_Modified_Since=past), 304)
    same(get(If_None_Match='"nope"', If_Modified_Since=now), 200)
    same((get(If_Match="*"), get(If_None_Match="*"), get(If_Match=etag.strip('"'))), (200, 304, 200))
    same((get(If_None_Match=f'"a", {etag}'), get(If_Match="")), (304, 200))
    same((get(If_Modified_Since="junk"), get(If_Unmodified_Since="junk")), (200, 200))
    # Where nothing is there is nothing to compare with.
    refused(404, "NoSuchKey", s3.put_object, Bucket=name, Key="none", Body=b"", IfMatch=etag)
    refused(404, "NoSuchKey", s3.delete_object, Bucket=name, Key="none", IfMatch=etag)
    upload = s3.create_multipart_upload(Bucket=name, Key="none")["UploadId"]
    tag = s3.upload_part(Bucket=name, Key="none", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    refused(404, "NoSuchKey", s3.complete_multipart_upload, Bucket=name, Key="none", UploadId=upload, IfMatch=etag,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    refused(412, "PreconditionFailed", s3.put_object, Bucket=name, Key="c", Body=b"", IfMatch='"nope"')
    s3.put_object(Bucket=name, Key="c", Body=b"", IfMatch=etag)


@scenario
def empty_numbers_are_none_and_odd_names_do_not_spoil_a_listing():
    name = bucket()
    for key in ["a/b", "\x07bell", "foo bar"]:
        s3.put_object(Bucket=name, Key=key, Body=b"")
    for query in ["max-keys=", "list-type=2&max-keys=", "encoding-type=", "delimiter=", "marker=", "allow-unordered=true"]:
        answer = send("GET", f"/{name}?{query}")
        same((answer[0], answer[2].count(b"<Contents>")), (200, 3))
    assert b"<Key>\xef\xbf\xbdbell</Key>" in answer[2], answer[2]
    answer = send("GET", f"/{name}?delimiter=%20")
    assert b"<Prefix>foo </Prefix>" in answer[2], answer[2]
    answer = send("GET", f"/{name}?delimiter=%2F&list-type=2")
    assert b"<KeyCount>3</KeyCount>" in answer[2], answer[2]
    for query in ["max-uploads=x&uploads", "encoding-type=x&uploads", "max-keys=-1&versions", "version-id-marker=a&versions",
                  "key-marker=a&version-id-marker=&versions"]:
        code(send("GET", f"/{name}?{query}"), 400, "InvalidArgument")


@scenario
def refusals_name_the_request():
    name = bucket()
    status, headers, body = send("GET", f"/{name}/none")
    same(status, 404)
    request_id = headers["x-amz-request-id"]
    assert f"<Resource>/{name}/none</Resource><RequestId>{request_id}</RequestId>".encode() in body, body
    for method, path in [("POST", f"/{name}/k"), ("POST", f"/{name}"), ("DELETE", "/"), ("PUT", "/")]:
        code(send(method, path), 405, "MethodNotAllowed")
    code(send("PUT", f"/{name}/k?partNumber=1", b"x"), 400, "InvalidArgument")


@scenario
def owners_lists_classes_and_ciphers_are_looked_at():
    name = bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    s3.get_object(Bucket=name, Key="k", ExpectedBucketOwner="000000000000", RequestPayer="requester")
    for call in [s3.get_object, s3.put_object, s3.delete_object, s3.create_multipart_upload]:
        refused(403, "AccessDenied", call, Bucket=name, Key="k", ExpectedBucketOwner="123456789012")
    refused(403, "AccessDenied", s3.list_objects_v2, Bucket=name, ExpectedBucketOwner="123456789012")
    refused(403, "AccessDenied", s3.copy_object, Bucket=name, Key="c", CopySource=f"{name}/k",
            ExpectedSourceBucketOwner="123456789012")
    refused(400, "InvalidBucketOwnerAWSAccountID", s3.get_object, Bucket=name, Key="k", ExpectedBucketOwner="me")
    for call, more in [(s3.put_object, {}), (s3.create_multipart_upload, {}),
                       (s3.copy_object, {"CopySource": f"{name}/k"})]:
        for allowed in ["private", "bucket-owner-full-control"]:
            call(Bucket=name, Key="l", ACL=allowed, **more)
        for other in ["public-read", "authenticated-read", "aws-exec-read", "bucket-owner-read"]:
            refused(400, "AccessControlListNotSupported", call, Bucket=name, Key="l", ACL=other, **more)
        refused(400, "AccessControlListNotSupported", call, Bucket=name, Key="l", GrantRead="id=1", **more)
        refused(400, "InvalidArgument", call, Bucket=name, Key="l", ACL="everybody", **more)
        refused(400, "InvalidStorageClass", call, Bucket=name, Key="l", StorageClass="gold", **more)
        refused(400, "InvalidArgument", call, Bucket=name, Key="l", ServerSideEncryption="rot13", **more)
    refused(400, "InvalidBucketAclWithObjectOwnership", s3.create_bucket, Bucket="x" + name, ACL="public-read")
    refused(501, "NotImplemented", s3.create_bucket, Bucket="x" + name, ObjectOwnership="ObjectWriter")
    code(send("PUT", f"/{name}?acl"), 400, "MissingSecurityHeader")
    refused(404, "NoSuchKey", s3.put_object_acl, Bucket=name, Key="none", ACL="private")


@scenario
def digests_of_documents_are_verified():
    name = bucket()
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"

    def delete(headers):
        return send("POST", f"/{name}?delete", body, headers)

    s3.put_object(Bucket=name, Key="a", Body=b"x")
    code(delete({}), 400, "InvalidRequest")
    code(delete({"Content-MD5": md5_of(b"other")}), 400, "BadDigest")
    code(delete({"Content-MD5": "nonsense"}), 400, "InvalidDigest")
    code(delete({"x-amz-checksum-crc32": sum_of(b"other")}), 400, "BadDigest")
    s3.head_object(Bucket=name, Key="a")
    same(delete({"x-amz-checksum-crc32": sum_of(body)})[0], 200)
    refused(404, "404", s3.head_object, Bucket=name, Key="a")
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    code(send("PUT", f"/{name}?tagging", tags, {"Content-MD5": md5_of(b"other")}), 400, "BadDigest")
    assert send("PUT", f"/{name}?tagging", tags, {"Content-MD5": md5_of(tags)})[0] in (200, 204)


@scenario
def announced_checksums_must_come():
    name = bucket()
    body, crc32 = b"hello", sum_of(b"hello")

    def put(**headers):
        return send("PUT", f"/{name}/k", body, {key.replace("_", "-"): value for key, value in headers.items()})

    for algorithm in ["CRC32", "junk"]:
        code(put(x_amz_sdk_checksum_algorithm=algorithm), 400, "InvalidRequest")
    code(put(x_amz_sdk_checksum_algorithm="SHA256", x_amz_checksum_crc32=crc32), 400, "InvalidRequest")
    same(put(x_amz_sdk_checksum_algorithm="CRC32", x_amz_checksum_crc32=crc32)[0], 200)
    for wrong in ["", "junk"]:
        code(put(x_amz_checksum_crc32=wrong), 400, "InvalidRequest")
    sha1 = base64.b64encode(hashlib.sha1(body).digest()).decode()
    code(put(x_amz_checksum_crc32=crc32, x_amz_checksum_sha1=sha1), 400, "InvalidRequest")
    copied = s3.copy_object(Bucket=name, Key="c", CopySource=f"{name}/k", ChecksumAlgorithm="SHA256")
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    same(copied["CopyObjectResult"]["ChecksumSHA256"], sha256)
    same(s3.head_object(Bucket=name, Key="c", ChecksumMode="ENABLED")["ChecksumSHA256"], sha256)


@scenario
def completions_must_fit_their_uploads():
    name = bucket()
    upload = s3.create_multipart_upload(Bucket=name, Key="m", ChecksumAlgorithm="SHA256")["UploadId"]
    target = {"Bucket": name, "Key": "m", "UploadId": upload}
    got = s3.upload_part(**target, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    part = {"PartNumber": 1, "ETag": got["ETag"]}
    full = {**part, "ChecksumSHA256": got["ChecksumSHA256"]}

    def complete(part, **more):
        return s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [part]}, **more)

    for wrong, more, why in [
        ({**full, "PartNumber": 0}, {}, "InvalidArgument"), ({**full, "PartNumber": -1}, {}, "InvalidArgument"),
        ({"PartNumber": 1}, {}, "MalformedXML"), ({"ETag": got["ETag"]}, {}, "MalformedXML"),
        (part, {}, "InvalidRequest"), (full, {"ChecksumType": "FULL_OBJECT"}, "InvalidRequest"),
        (full, {"MpuObjectSize": 7}, "InvalidRequest"), (full, {"MpuObjectSize": -1}, "InvalidRequest"),
        ({**full, "ChecksumSHA256": "A" * 43 + "="}, {}, "InvalidPart"),
    ]:
        refused(400, why, lambda **_: complete(wrong, **more))
    same(complete(full, MpuObjectSize=1)["ChecksumType"], "COMPOSITE")
    s3.put_object(Bucket=name, Key="s", Body=b"12345")
    upload = s3.create_multipart_upload(Bucket=name, Key="n")["UploadId"]
    refused(400, "InvalidArgument", s3.upload_part_copy, Bucket=name, Key="n", UploadId=upload, PartNumber=1,
            CopySource=f"{name}/s", CopySourceRange="bytes=0-5")


@scenario
def tags_have_their_letters():
    name = bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"", Tagging="a b=c%2Bd-%3D._%3A%2F%40&%C3%BC=")

    def put(inner):
        return send("PUT", f"/{name}/k?tagging", f"<Tagging><TagSet>{inner}</TagSet></Tagging>".encode())

    for key in ["a!", "aws:x", ""]:
        code(put(f"<Tag><Key>{key}</Key><Value>v</Value></Tag>"), 400, "InvalidTag")
    code(put("<Tag><Key>a</Key></Tag>"), 400, "MalformedXML")
    refused(400, "InvalidArgument", s3.put_object, Bucket=name, Key="k", Body=b"", Tagging="a=1&a=2")
    refused(400, "InvalidTag", s3.put_object, Bucket=name, Key="k", Body=b"", Tagging="a%21=1")
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": []})
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=name)


@scenario
def rules_of_a_lifecycle_say_one_thing():
    name = bucket()

    def put(inner):
        body = f"<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status>{inner}</Rule></LifecycleConfiguration>"
        return send("PUT", f"/{name}?lifecycle", body.encode())

    days, everything = "<Expiration><Days>3</Days></Expiration>", "<Filter><Prefix></Prefix></Filter>"
    for wrong in [
        days, everything + "<Prefix>a</Prefix>" + days,
        everything + "<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>",
        everything + "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
        "<Filter><Prefix>a</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></Filter>" + days,
    ]:
        code(put(wrong), 400, "MalformedXML")
    code(put(everything), 400, "InvalidRequest")
    same(put("<Filter><Prefix>log/</Prefix></Filter>" + days)[0], 200)
    # The header follows the bucket as a pod remembers it, which is at once where the bucket is at home.
    put = s3.put_object(Bucket=name, Key="log/a", Body=b"")
    head = s3.head_object(Bucket=name, Key="log/a")
    for answer in [put, head, s3.get_object(Bucket=name, Key="log/a")]:
        found = re.fullmatch(r'expiry-date="(.*)", rule-id="r"', answer["Expiration"])
        end = datetime.datetime.strptime(found[1], "%a, %d %b %Y 00:00:00 GMT").replace(tzinfo=datetime.timezone.utc)
        assert datetime.timedelta(days=3) <= end - head["LastModified"] < datetime.timedelta(days=4, seconds=1)
    assert "Expiration" not in s3.put_object(Bucket=name, Key="other", Body=b"")


@scenario
def credentials_belong_to_their_day_and_service():
    name = bucket()
    code(raw("GET", f"/{name}", headers={"Authorization": "HMAC nonsense", "x-amz-date": "now"}), 400, "InvalidArgument")
    code(raw("GET", f"/{name}", headers={"Authorization": "", "x-amz-date": "now"}), 403, "AccessDenied")
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d")

    def with_credential(scope, when):
        header = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
        return raw("GET", f"/{name}", headers={"Authorization": header, "x-amz-date": when})

    good = f"nobody/{today}/us-east-1/s3/aws4_request"
    code(with_credential(good, ""), 403, "AccessDenied")
    code(with_credential(good, "today"), 403, "AccessDenied")
    for scope in [good.replace(today, "20200101"), good.replace("/s3/", "/ec2/"), good.replace("aws4_", "aws5_")]:
        code(with_credential(scope, f"{today}T000000Z"), 400, "AuthorizationHeaderMalformed")
    code(send("GET", f"/{name}", access="nobody"), 403, "InvalidAccessKeyId")


@scenario
def copies_name_their_source_in_many_ways():
    name = bucket()
    s3.put_object(Bucket=name, Key="a b+c/ü?x", Body=b"source")
    quoted = urllib.parse.quote("a b+c/ü?x")

    def copy(source, **headers):
        return send("PUT", f"/{name}/to", headers={"x-amz-copy-source": source, **headers})

    for source in [f"{name}/{quoted}", f"/{name}/{quoted}", urllib.parse.quote(f"{name}/a b+c/ü?x", safe=""),
                   f"{name}/{quoted}?versionId=null"]:
        same(copy(source)[0], 200)
        same(s3.get_object(Bucket=name, Key="to")["Body"].read(), b"source")
    for source in [name, f"{name}/", "/", f"{name}/{quoted}?versionId=nonsense"]:
        code(copy(source), 400, "InvalidArgument")
    code(copy(f"{name}/{quoted}", **{"x-amz-storage-class": "gold"}), 400, "InvalidStorageClass")
    code(copy(f"{name}/{quoted}", **{"x-amz-tagging-directive": "MOVE"}), 400, "InvalidArgument")


@scenario
def buckets_may_stand_in_the_host_name():
    import socket

    import boto3
    from botocore.client import Config

    domain, port = "s3.blobstore.test", int(ENDPOINT.rsplit(":", 1)[1])
    ask = socket.getaddrinfo

    def resolve(host, *more, **options):
        return ask("127.0.0.1" if str(host).endswith(domain) else host, *more, **options)

    socket.getaddrinfo = resolve
    try:
        hosted = boto3.client(
            "s3", endpoint_url=f"http://{domain}:{port}", aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY, region_name="us-east-1",
            config=Config(s3={"addressing_style": "virtual"}, signature_version="s3v4", retries={"max_attempts": 1}))
        name = f"hosted-{bucket()[5:]}"
        hosted.create_bucket(Bucket=name)
        assert name in [entry["Name"] for entry in hosted.list_buckets()["Buckets"]]
        for key in ["a b/ü+c", f"{name}/k", "plain"]:
            hosted.put_object(Bucket=name, Key=key, Body=key.encode())
            same(hosted.get_object(Bucket=name, Key=key)["Body"].read(), key.encode())
            same(s3.get_object(Bucket=name, Key=key)["Body"].read(), key.encode())
        same(hosted.list_objects_v2(Bucket=name, Delimiter="/")["KeyCount"], 3)
        hosted.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "plain"})
        upload = hosted.create_multipart_upload(Bucket=name, Key="m")["UploadId"]
        tag = hosted.upload_part(Bucket=name, Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        done = hosted.complete_multipart_upload(Bucket=name, Key="m", UploadId=upload,
                                                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
        same(done["Location"], f"http://{name}.{domain}:{port}/m")
        url = hosted.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "copy"}, ExpiresIn=60)
        assert url.startswith(f"http://{name}.{domain}:{port}/copy?"), url
        same(urllib.request.urlopen(url).read(), b"plain")
        post = hosted.generate_presigned_post(name, "form")
        import requests

        same(requests.post(post["url"], data=post["fields"], files={"file": ("f", b"by form")}).status_code, 204)
        same(s3.get_object(Bucket=name, Key="form")["Body"].read(), b"by form")
        hosted.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "plain"}]})
        refused(404, "NoSuchKey", hosted.get_object, Bucket=name, Key="plain")
        # Without a signature, and to the plain lane.
        token = {"Authorization": f"Bearer {SECRET_KEY}", "Host": f"{name}.{domain}"}
        same(raw("GET", "/copy", headers=token)[::2], (200, b"plain"))
        same(raw("GET", "/copy", headers={"Host": f"{name}.{domain}"})[0], 401)
    finally:
        socket.getaddrinfo = ask


@scenario
def configurations_that_say_nothing_are_taken():
    name = bucket()
    s3.put_bucket_logging(Bucket=name, BucketLoggingStatus={})
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={})
    s3.put_bucket_request_payment(Bucket=name, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    for call in [s3.delete_bucket_encryption, s3.delete_bucket_replication, s3.delete_bucket_website]:
        same(call(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"], 204)
    s3.put_object(Bucket=name, Key="k", Body=b"")
    for call in [s3.get_object_retention, s3.get_object_legal_hold]:
        refused(400, "InvalidRequest", call, Bucket=name, Key="k")
    body = b"<VersioningConfiguration><Status>on</Status></VersioningConfiguration>"
    code(send("PUT", f"/{name}?versioning", body), 400, "MalformedXML")


if __name__ == "__main__":
    run("edges")
