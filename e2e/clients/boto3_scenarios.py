"""What an application does with boto3: buckets, objects, ranges, conditions, listings, presigned URLs, checksums."""

import base64
import hashlib
import io
import urllib.error
import urllib.request
import uuid
import zlib

import boto3
import boto3.s3.transfer
from botocore.client import Config
from botocore.exceptions import ClientError

from harness import ACCESS_KEY, ENDPOINT, SECRET_KEY, pattern, run, scenario


def client(**config):
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config),
    )


s3 = client()


def bucket():
    name = f"boto-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


def refused(status, code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = (error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
        assert got == (status, code), got
        return error.response
    raise AssertionError(f"not refused: {status} {code} was expected")


def same(got, want):
    assert got == want, f"{got!r} is not {want!r}"


@scenario
def buckets_are_made_found_and_removed():
    name = bucket()
    assert name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    same(s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"], 200)
    same(s3.get_bucket_location(Bucket=name)["LocationConstraint"], None)
    refused(409, "BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=name)
    s3.put_object(Bucket=name, Key="a", Body=b"x")
    refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket=name)
    s3.delete_object(Bucket=name, Key="a")
    s3.delete_bucket(Bucket=name)
    refused(404, "404", s3.head_bucket, Bucket=name)
    refused(404, "NoSuchBucket", s3.list_objects_v2, Bucket=name)
    refused(404, "NoSuchBucket", s3.put_object, Bucket=name, Key="a", Body=b"x")
    refused(400, "InvalidBucketName", client().create_bucket, Bucket="under_score")


@scenario
def objects_come_back_as_they_went():
    name = bucket()
    for size in [0, 1, 4096, 16384, 16385, 65536, 262080, 262081, 1 << 20, 5_000_001, 9 << 20]:
        body = pattern(size, size + 1)
        put = s3.put_object(Bucket=name, Key=f"o/{size}", Body=body)
        md5 = hashlib.md5(body).hexdigest()
        if size <= 8 << 20:
            same(put["ETag"], f'"{md5}"')
        else:
            assert put["ETag"].endswith('-1"'), put["ETag"]
        got = s3.get_object(Bucket=name, Key=f"o/{size}")
        same(hashlib.md5(got["Body"].read()).hexdigest(), md5)
        same((got["ContentLength"], got["ETag"]), (size, put["ETag"]))
        head = s3.head_object(Bucket=name, Key=f"o/{size}")
        same((head["ContentLength"], head["ETag"], head["AcceptRanges"]), (size, put["ETag"], "bytes"))


@scenario
def strange_keys_are_keys():
    name = bucket()
    keys = ["a b", "a+b", "ä/ö", "%41", "x//y", "/lead", "trail/", "a&b=c;d", "q?r#s", "~.-_", "'\"<>", "日本語", "*"]
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    for key in keys:
        same(s3.get_object(Bucket=name, Key=key)["Body"].read(), key.encode())
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=name)["Contents"]]
    same(listed, sorted(keys, key=lambda key: key.encode()))
    refused(400, "KeyTooLongError", s3.put_object, Bucket=name, Key="k" * 1025, Body=b"")


@scenario
def headers_and_metadata_are_kept():
    name = bucket()
    s3.put_object(
        Bucket=name,
        Key="m",
        Body=b"x",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="a.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"one": "1", "two": "zwei"},
        StorageClass="REDUCED_REDUNDANCY",
    )
    head = s3.head_object(Bucket=name, Key="m")
    same(head["Metadata"], {"one": "1", "two": "zwei"})
    same(head["ContentType"], "text/plain; charset=utf-8")
    same(head["CacheControl"], "max-age=60")
    same(head["ContentDisposition"], 'attachment; filename="a.txt"')
    same(head["ContentEncoding"], "gzip")
    same(head["ContentLanguage"], "de")
    same(head["StorageClass"], "REDUCED_REDUNDANCY")
    s3.put_object(Bucket=name, Key="plain", Body=b"x")
    same(s3.head_object(Bucket=name, Key="plain")["ContentType"], "binary/octet-stream")
    refused(400, "MetadataTooLarge", s3.put_object, Bucket=name, Key="b", Body=b"", Metadata={"k": "v" * 2100})
    got = s3.get_object(
        Bucket=name, Key="m", ResponseContentType="image/png", ResponseCacheControl="no-store",
        ResponseContentDisposition="inline", ResponseContentEncoding="identity", ResponseContentLanguage="fr",
    )
    same((got["ContentType"], got["CacheControl"]), ("image/png", "no-store"))
    same((got["ContentDisposition"], got["ContentLanguage"]), ("inline", "fr"))


@scenario
def ranges_are_cut_to_the_byte():
    name = bucket()
    body = pattern(1 << 20)
    s3.put_object(Bucket=name, Key="r", Body=body)
    for text, start, end in [
        ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=1048000-", 1048000, 1 << 20),
        ("bytes=-5", (1 << 20) - 5, 1 << 20), ("bytes=262079-262081", 262079, 262082),
        ("bytes=5-99999999", 5, 1 << 20),
    ]:
        got = s3.get_object(Bucket=name, Key="r", Range=text)
        same(got["Body"].read(), body[start:end])
        same(got["ContentRange"], f"bytes {start}-{end - 1}/{1 << 20}")
        same(got["ResponseMetadata"]["HTTPStatusCode"], 206)
    refused(416, "InvalidRange", s3.get_object, Bucket=name, Key="r", Range="bytes=1048576-")


@scenario
def conditions_hold_on_reads_and_writes():
    name = bucket()
    put = s3.put_object(Bucket=name, Key="c", Body=b"one")
    etag, modified = put["ETag"], s3.head_object(Bucket=name, Key="c")["LastModified"]
    s3.get_object(Bucket=name, Key="c", IfMatch=etag)
    refused(412, "PreconditionFailed", s3.get_object, Bucket=name, Key="c", IfMatch='"nope"')
    refused(304, "304", s3.get_object, Bucket=name, Key="c", IfNoneMatch=etag)
    refused(304, "304", s3.head_object, Bucket=name, Key="c", IfNoneMatch=etag)
    refused(304, "304", s3.get_object, Bucket=name, Key="c", IfModifiedSince=modified)
    s3.get_object(Bucket=name, Key="c", IfUnmodifiedSince=modified)
    refused(412, "PreconditionFailed", s3.put_object, Bucket=name, Key="c", Body=b"x", IfNoneMatch="*")
    s3.put_object(Bucket=name, Key="new", Body=b"x", IfNoneMatch="*")
    refused(412, "PreconditionFailed", s3.put_object, Bucket=name, Key="c", Body=b"x", IfMatch='"nope"')
    s3.put_object(Bucket=name, Key="c", Body=b"two", IfMatch=etag)
    same(s3.get_object(Bucket=name, Key="c")["Body"].read(), b"two")
    refused(404, "NoSuchKey", s3.get_object, Bucket=name, Key="none")
    refused(404, "404", s3.head_object, Bucket=name, Key="none")


@scenario
def listings_page_and_fold():
    name = bucket()
    keys = [f"d{i % 7}/f{i:03}" for i in range(150)] + ["root-a", "root-b"]
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=b"")
    keys.sort()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name, PaginationConfig={"PageSize": 17})
    same([entry["Key"] for page in pages for entry in page.get("Contents", [])], keys)
    pages = s3.get_paginator("list_objects").paginate(Bucket=name, PaginationConfig={"PageSize": 17})
    same([entry["Key"] for page in pages for entry in page.get("Contents", [])], keys)
    for lister in ["list_objects", "list_objects_v2"]:
        prefixes, roots = [], []
        pages = s3.get_paginator(lister).paginate(Bucket=name, Delimiter="/", PaginationConfig={"PageSize": 2})
        for page in pages:
            prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
            roots += [entry["Key"] for entry in page.get("Contents", [])]
        same((prefixes, roots), ([f"d{i}/" for i in range(7)], ["root-a", "root-b"]))
    page = s3.list_objects_v2(Bucket=name, Prefix="d3/", MaxKeys=5, StartAfter="d3/f010")
    same((page["KeyCount"], page["IsTruncated"], page["MaxKeys"]), (5, True, 5))
    same(page["Contents"][0]["Key"], "d3/f017")
    assert "Owner" not in page["Contents"][0]
    assert s3.list_objects_v2(Bucket=name, FetchOwner=True, MaxKeys=1)["Contents"][0]["Owner"]["ID"]
    empty = s3.list_objects_v2(Bucket=name, MaxKeys=0)
    same((empty["KeyCount"], empty["IsTruncated"]), (0, False))
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=name, ContinuationToken="nonsense")
    refused(400, "InvalidArgument", s3.list_objects_v2, Bucket=name, MaxKeys=-1)


@scenario
def many_are_deleted_at_once():
    name = bucket()
    keys = [f"k{i}" for i in range(300)]
    for key in keys[:150]:
        s3.put_object(Bucket=name, Key=key, Body=b"x")
    got = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys]})
    same([entry["Key"] for entry in got["Deleted"]], keys)
    assert "Errors" not in got
    same(s3.list_objects_v2(Bucket=name)["KeyCount"], 0)
    s3.put_object(Bucket=name, Key="q", Body=b"x")
    quiet = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "q"}], "Quiet": True})
    assert "Deleted" not in quiet and "Errors" not in quiet
    refused(400, "MalformedXML", s3.delete_objects, Bucket=name, Delete={"Objects": [{"Key": "k"}] * 1001})
    same(s3.delete_object(Bucket=name, Key="never")["ResponseMetadata"]["HTTPStatusCode"], 204)


@scenario
def checksums_are_verified_against_what_arrived():
    name = bucket()
    body = pattern(300_000)
    sums = {
        "CRC32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        "SHA1": base64.b64encode(hashlib.sha1(body).digest()).decode(),
        "SHA256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    for algorithm, value in sums.items():
        got = s3.put_object(Bucket=name, Key=algorithm, Body=body, **{f"Checksum{algorithm}": value})
        same(got[f"Checksum{algorithm}"], value)
        wrong = {f"Checksum{algorithm}": base64.b64encode(bytes(len(base64.b64decode(value)))).decode()}
        refused(400, "BadDigest", s3.put_object, Bucket=name, Key=f"bad-{algorithm}", Body=body, **wrong)
        refused(404, "404", s3.head_object, Bucket=name, Key=f"bad-{algorithm}")
    # A stream has no sum in advance: it comes in a trailer.
    for algorithm in ["CRC32", "SHA256"]:
        s3.put_object(Bucket=name, Key=f"t-{algorithm}", Body=io.BytesIO(body), ChecksumAlgorithm=algorithm)
        same(s3.get_object(Bucket=name, Key=f"t-{algorithm}")["Body"].read(), body)
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    s3.put_object(Bucket=name, Key="md5", Body=body, ContentMD5=md5)
    refused(400, "BadDigest", s3.put_object, Bucket=name, Key="m", Body=b"other", ContentMD5=md5)
    refused(400, "InvalidDigest", s3.put_object, Bucket=name, Key="m", Body=b"other", ContentMD5="AAAA")
    refused(404, "404", s3.head_object, Bucket=name, Key="m")


@scenario
def presigned_urls_work_without_keys():
    name = bucket()
    # What boto3 does unless told otherwise is version 2.
    for signer in [client(signature_version="s3v4"), s3]:
        url = signer.generate_presigned_url("put_object", Params={"Bucket": name, "Key": "p q"}, ExpiresIn=60)
        request = urllib.request.Request(url, data=b"by url", method="PUT")
        request.add_header("Content-Type", "")
        same(urllib.request.urlopen(request).status, 200)
        url = signer.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "p q"}, ExpiresIn=60)
        same(urllib.request.urlopen(url).read(), b"by url")
        try:
            urllib.request.urlopen(url.replace("p%20q", "other"))
            raise AssertionError("a forged URL was served")
        except urllib.error.HTTPError as error:
            same(error.code, 403)
            assert b"SignatureDoesNotMatch" in error.read()


@scenario
def strangers_are_turned_away():
    name = bucket()
    s3.put_object(Bucket=name, Key="secret", Body=b"x")

    def other(access, secret):
        return boto3.client(
            "s3", endpoint_url=ENDPOINT, aws_access_key_id=access, aws_secret_access_key=secret,
            region_name="us-east-1", config=Config(retries={"max_attempts": 1}),
        )

    stranger, liar = other("nobody", "x" * 40), other(ACCESS_KEY, "x" * 40)
    refused(403, "InvalidAccessKeyId", stranger.get_object, Bucket=name, Key="secret")
    refused(403, "SignatureDoesNotMatch", liar.get_object, Bucket=name, Key="secret")
    from botocore import UNSIGNED

    anonymous = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1",
                             config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}))
    refused(403, "AccessDenied", anonymous.get_object, Bucket=name, Key="secret")
    refused(403, "AccessDenied", anonymous.put_object, Bucket=name, Key="secret", Body=b"")
    refused(403, "AccessDenied", anonymous.list_buckets)


@scenario
def copies_keep_or_replace_what_describes_them():
    name, other = bucket(), bucket()
    body = pattern(3_000_000)
    put = s3.put_object(Bucket=name, Key="a/ö b", Body=body, ContentType="text/x", Metadata={"k": "v"})
    source = {"Bucket": name, "Key": "a/ö b"}
    copied = s3.copy_object(Bucket=other, Key="kept", CopySource=source)["CopyObjectResult"]
    same(copied["ETag"], put["ETag"])
    assert copied["LastModified"]
    got = s3.get_object(Bucket=other, Key="kept")
    same((got["Body"].read() == body, got["ContentType"], got["Metadata"]), (True, "text/x", {"k": "v"}))
    s3.copy_object(Bucket=name, Key="new", CopySource=source, MetadataDirective="REPLACE",
                   Metadata={"n": "w"}, ContentType="image/png")
    head = s3.head_object(Bucket=name, Key="new")
    same((head["ContentType"], head["Metadata"]), ("image/png", {"n": "w"}))
    refused(400, "InvalidRequest", s3.copy_object, Bucket=name, Key="a/ö b", CopySource=source)
    s3.copy_object(Bucket=name, Key="a/ö b", CopySource=source, MetadataDirective="REPLACE", Metadata={"z": "1"})
    same(s3.head_object(Bucket=name, Key="a/ö b")["Metadata"], {"z": "1"})
    same(s3.get_object(Bucket=name, Key="a/ö b")["Body"].read(), body)
    refused(404, "NoSuchKey", s3.copy_object, Bucket=name, Key="x", CopySource={"Bucket": name, "Key": "none"})
    refused(404, "NoSuchBucket", s3.copy_object, Bucket=name, Key="x",
            CopySource={"Bucket": "none-" + name, "Key": "a"})
    refused(412, "PreconditionFailed", s3.copy_object, Bucket=name, Key="x", CopySource=source,
            CopySourceIfMatch='"nope"')
    refused(412, "PreconditionFailed", s3.copy_object, Bucket=name, Key="x", CopySource=source,
            CopySourceIfNoneMatch=put["ETag"])
    s3.copy_object(Bucket=name, Key="x", CopySource=source, CopySourceIfMatch=put["ETag"])


@scenario
def parts_become_one_object():
    name = bucket()
    parts = [pattern(5 << 20, 1), pattern((5 << 20) + 777, 2), pattern(1000, 3)]
    upload = s3.create_multipart_upload(Bucket=name, Key="mp", ContentType="text/x", Metadata={"k": "v"},
                                        StorageClass="STANDARD_IA")["UploadId"]
    target = {"Bucket": name, "Key": "mp", "UploadId": upload}
    tags = {}
    for number in [3, 1, 2]:
        got = s3.upload_part(**target, PartNumber=number, Body=parts[number - 1])
        tags[number] = got["ETag"]
        same(got["ETag"], f'"{hashlib.md5(parts[number - 1]).hexdigest()}"')
    refused(404, "NoSuchKey", s3.get_object, Bucket=name, Key="mp")
    listed = s3.list_parts(**target)
    same([(p["PartNumber"], p["Size"], p["ETag"]) for p in listed["Parts"]],
         [(n, len(parts[n - 1]), tags[n]) for n in [1, 2, 3]])
    page = s3.list_parts(**target, MaxParts=2)
    same((page["IsTruncated"], page["NextPartNumberMarker"], len(page["Parts"])), (True, 2, 2))
    page = s3.list_parts(**target, PartNumberMarker=2)
    same([p["PartNumber"] for p in page["Parts"]], [3])
    open_now = s3.list_multipart_uploads(Bucket=name)["Uploads"]
    same([(u["Key"], u["UploadId"], u["StorageClass"]) for u in open_now], [("mp", upload, "STANDARD_IA")])

    def complete(numbers, tags=tags, **more):
        listed = [{"PartNumber": n, "ETag": tags[n]} for n in numbers]
        return s3.complete_multipart_upload(**target, MultipartUpload={"Parts": listed}, **more)

    refused(400, "InvalidPartOrder", lambda **_: complete([2, 1, 3]))
    refused(400, "InvalidPart", lambda **_: complete([1], {1: '"' + "0" * 32 + '"'}))
    done = complete([1, 2, 3])
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    same(done["ETag"], f'"{digest}-3"')
    assert done["Location"].endswith(f"/{name}/mp")
    whole = b"".join(parts)
    got = s3.get_object(Bucket=name, Key="mp")
    same((got["Body"].read() == whole, got["ContentType"], got["Metadata"]), (True, "text/x", {"k": "v"}))
    same(got["ETag"], done["ETag"])
    edge = len(parts[0])
    got = s3.get_object(Bucket=name, Key="mp", Range=f"bytes={edge - 5}-{edge + 5}")
    same(got["Body"].read(), whole[edge - 5 : edge + 6])
    refused(404, "NoSuchUpload", s3.list_parts, **target)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=name)
    refused(404, "NoSuchUpload", s3.upload_part, Bucket=name, Key="mp", UploadId="nonsense", PartNumber=1, Body=b"x")
    refused(400, "InvalidArgument", s3.upload_part, **target, PartNumber=10001, Body=b"x")


@scenario
def uploads_are_aborted_and_listed_in_pages():
    name = bucket()
    keys = ["a/1", "a/2", "b/1", "c"]
    ids = {key: s3.create_multipart_upload(Bucket=name, Key=key)["UploadId"] for key in keys}
    first = s3.list_multipart_uploads(Bucket=name, MaxUploads=2)
    same(([u["Key"] for u in first["Uploads"]], first["IsTruncated"]), (["a/1", "a/2"], True))
    rest = s3.list_multipart_uploads(Bucket=name, KeyMarker=first["NextKeyMarker"],
                                     UploadIdMarker=first["NextUploadIdMarker"])
    same([u["Key"] for u in rest["Uploads"]], ["b/1", "c"])
    folded = s3.list_multipart_uploads(Bucket=name, Delimiter="/")
    same(([p["Prefix"] for p in folded["CommonPrefixes"]], [u["Key"] for u in folded["Uploads"]]),
         (["a/", "b/"], ["c"]))
    small = [s3.upload_part(Bucket=name, Key="c", UploadId=ids["c"], PartNumber=n, Body=b"x")["ETag"] for n in [1, 2]]
    refused(400, "EntityTooSmall", s3.complete_multipart_upload, Bucket=name, Key="c", UploadId=ids["c"],
            MultipartUpload={"Parts": [{"PartNumber": n + 1, "ETag": tag} for n, tag in enumerate(small)]})
    refused(400, "MalformedXML", s3.complete_multipart_upload, Bucket=name, Key="c", UploadId=ids["c"],
            MultipartUpload={"Parts": []})
    for key, upload in ids.items():
        s3.abort_multipart_upload(Bucket=name, Key=key, UploadId=upload)
    refused(404, "NoSuchUpload", s3.abort_multipart_upload, Bucket=name, Key="c", UploadId=ids["c"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=name)
    s3.delete_bucket(Bucket=name)


@scenario
def parts_are_copied_from_objects():
    name = bucket()
    body = pattern(12_000_000)
    s3.put_object(Bucket=name, Key="source", Body=body)
    upload = s3.create_multipart_upload(Bucket=name, Key="to")["UploadId"]
    target = {"Bucket": name, "Key": "to", "UploadId": upload}
    source = {"Bucket": name, "Key": "source"}
    one = s3.upload_part_copy(**target, PartNumber=1, CopySource=source, CopySourceRange="bytes=0-5999999")
    two = s3.upload_part_copy(**target, PartNumber=2, CopySource=source, CopySourceRange="bytes=6000000-11999999")
    refused(400, "InvalidArgument", s3.upload_part_copy, **target, PartNumber=3, CopySource=source,
            CopySourceRange="bytes=6000000-12000000")
    refused(400, "InvalidArgument", s3.upload_part_copy, **target, PartNumber=3, CopySource=source,
            CopySourceRange="bytes=5-")
    tags = [one["CopyPartResult"]["ETag"], two["CopyPartResult"]["ETag"]]
    s3.complete_multipart_upload(**target, MultipartUpload={
        "Parts": [{"PartNumber": n + 1, "ETag": tag} for n, tag in enumerate(tags)]})
    assert s3.get_object(Bucket=name, Key="to")["Body"].read() == body
    # What boto3 does by itself with large files.
    config = boto3.s3.transfer.TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=5 << 20)
    s3.upload_fileobj(io.BytesIO(body), name, "managed", Config=config)
    out = io.BytesIO()
    s3.download_fileobj(name, "managed", out, Config=config)
    assert out.getvalue() == body
    s3.copy({"Bucket": name, "Key": "managed"}, name, "managed-copy", Config=config)
    assert s3.get_object(Bucket=name, Key="managed-copy")["Body"].read() == body


@scenario
def checksums_cover_parts_and_wholes():
    name = bucket()
    parts = [pattern(5 << 20, 7), pattern(5000, 8)]
    for algorithm, kind in [("SHA256", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]:
        key = f"{algorithm}-{kind}"
        made = s3.create_multipart_upload(Bucket=name, Key=key, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        same((made["ChecksumAlgorithm"], made["ChecksumType"]), (algorithm, kind))
        target = {"Bucket": name, "Key": key, "UploadId": made["UploadId"]}
        listed = []
        for number, part in enumerate(parts, 1):
            got = s3.upload_part(**target, PartNumber=number, Body=part, ChecksumAlgorithm=algorithm)
            listed.append({"PartNumber": number, "ETag": got["ETag"],
                           f"Checksum{algorithm}": got[f"Checksum{algorithm}"]})
        done = s3.complete_multipart_upload(**target, MultipartUpload={"Parts": listed})
        head = s3.head_object(Bucket=name, Key=key, ChecksumMode="ENABLED")
        same((head[f"Checksum{algorithm}"], head["ChecksumType"]), (done[f"Checksum{algorithm}"], kind))
        assert done[f"Checksum{algorithm}"].endswith("-2") == (kind == "COMPOSITE")
    whole = zlib.crc32(b"".join(parts)).to_bytes(4, "big")
    head = s3.head_object(Bucket=name, Key="CRC32-FULL_OBJECT", ChecksumMode="ENABLED")
    same(head["ChecksumCRC32"], base64.b64encode(whole).decode())
    refused(400, "InvalidRequest", s3.create_multipart_upload, Bucket=name, Key="x", ChecksumAlgorithm="SHA1",
            ChecksumType="FULL_OBJECT")


@scenario
def browsers_upload_with_a_policy():
    import requests

    name = bucket()
    signer = client(signature_version="s3v4")
    post = signer.generate_presigned_post(
        name, "form/${filename}", Fields={"Content-Type": "text/plain", "x-amz-meta-from": "form"},
        Conditions=[{"Content-Type": "text/plain"}, {"x-amz-meta-from": "form"},
                    ["content-length-range", 1, 100]])
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("f.txt", b"by form")})
    same(answer.status_code, 204)
    got = s3.get_object(Bucket=name, Key="form/f.txt")
    same((got["Body"].read(), got["ContentType"], got["Metadata"]), (b"by form", "text/plain", {"from": "form"}))
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("g.txt", b"x" * 101)})
    same((answer.status_code, b"EntityTooLarge" in answer.content), (400, True))
    answer = requests.post(post["url"], data={**post["fields"], "x-amz-meta-from": "other"},
                           files={"file": ("g.txt", b"x")})
    same(answer.status_code, 403)
    answer = requests.post(post["url"], data={"key": "g.txt"}, files={"file": ("g.txt", b"x")})
    same(answer.status_code, 403)
    refused(404, "404", s3.head_object, Bucket=name, Key="form/g.txt")
    post = signer.generate_presigned_post(name, "created", Fields={"success_action_status": "201"},
                                          Conditions=[{"success_action_status": "201"}])
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("f.txt", b"x")})
    same((answer.status_code, b"<Key>created</Key>" in answer.content), (201, True))


@scenario
def what_nobody_configured_answers_as_at_home():
    name = bucket()
    for call, code in [
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    ]:
        refused(404, code, getattr(s3, call), Bucket=name)
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    same(s3.get_bucket_request_payment(Bucket=name)["Payer"], "BucketOwner")
    same(s3.get_bucket_acl(Bucket=name)["Grants"][0]["Permission"], "FULL_CONTROL")
    for call in ["get_bucket_accelerate_configuration", "get_bucket_logging",
                 "get_bucket_notification_configuration"]:
        same(getattr(s3, call)(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"], 200)
    refused(404, "NoSuchBucket", s3.get_bucket_cors, Bucket="never-made-" + name)


if __name__ == "__main__":
    run("boto3")
