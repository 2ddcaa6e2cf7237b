"""What browsers send: forms with a policy, in every shape that AWS documents, and the refusals that it gives."""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import zlib

from boto3_scenarios import bucket, refused, s3, same
from harness import ACCESS_KEY, ENDPOINT, SECRET_KEY, pattern, run, scenario, start_anew
from protocol_scenarios import code, raw

start_anew()

BOUNDARY = "----a boundary'()+_,-./:=?"


def body_of(fields, data=b"file data", file_name="f.txt", behind=(), file=True):
    """A form as a browser writes it; `behind`: fields after the file."""

    def part(field, value):
        return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()

    out = b"".join(part(*field) for field in fields)
    if file:
        out += (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file_name}"\r\n'
                "Content-Type: text/plain\r\n\r\n").encode() + data + b"\r\n"
    return out + b"".join(part(*field) for field in behind) + f"--{BOUNDARY}--\r\n".encode()


def send_form(name, fields, **more):
    connection = http.client.HTTPConnection(ENDPOINT.removeprefix("http://"), timeout=30)
    headers = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}
    # By hand: nobody follows where the answer leads.
    connection.request("POST", f"/{name}", body_of(fields, **more), headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def hmac256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def in_time(hours=1):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)


def post(name, fields, conditions, old=False, age=0, expires=1, policy=None, signature=None, names=str, **more):
    """A form signed as it should be, but for what is asked. `age`: hours since it was signed."""
    stamp = in_time(-age).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    own = [] if old else [("x-amz-credential", f"{ACCESS_KEY}/{scope}"), ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
                          ("x-amz-date", stamp)]
    document = {"expiration": in_time(expires).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "conditions": [{"bucket": name}, *conditions, *({key: value} for key, value in own)]}
    text = base64.b64encode(json.dumps(document).encode() if policy is None else policy).decode()
    if old:
        sum_of = base64.b64encode(hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()).decode()
        own = [("AWSAccessKeyId", ACCESS_KEY), ("signature", signature or sum_of)]
    else:
        key = f"AWS4{SECRET_KEY}".encode()
        for step in scope.split("/"):
            key = hmac256(key, step)
        own.append(("x-amz-signature", signature or hmac256(key, text).hex()))
    fields = [*fields, *own, ("policy", text)]
    return send_form(name, [(names(field), value) for field, value in fields], **more)


ANY_KEY = ["starts-with", "$key", ""]


@scenario
def forms_are_answered_as_they_ask():
    name = bucket()
    for old in [False, True]:
        answer = post(name, [("key", "a b")], [ANY_KEY], old=old)
        same((answer[0], answer[1]["Location"]), (204, f"{ENDPOINT}/{name}/a%20b"))
        same(answer[1]["ETag"], f'"{hashlib.md5(b"file data").hexdigest()}"')
        same(s3.get_object(Bucket=name, Key="a b")["Body"].read(), b"file data")
    status = ["starts-with", "$success_action_status", ""]
    for asked, want in [("200", 200), ("201", 201), ("204", 204), ("404", 204)]:
        answer = post(name, [("key", "a b"), ("success_action_status", asked)], [ANY_KEY, status])
        same(answer[0], want)
        if asked == "201":
            for part in [f"<Location>{ENDPOINT}/{name}/a%20b</Location>", f"<Bucket>{name}</Bucket>", "<Key>a b</Key>"]:
                assert part.encode() in answer[2], answer[2]
    # As a browser sends it: the button stands behind the file.
    same(post(name, [("key", "k")], [ANY_KEY], behind=[("submit", "Upload"), ("x-amz-meta-late", "1")])[0], 204)
    same(s3.head_object(Bucket=name, Key="k")["Metadata"], {})
    same(post(name, [("key", "up/${filename}")], [ANY_KEY], file_name="my file.txt")[0], 204)
    s3.head_object(Bucket=name, Key="up/my file.txt")
    # A form may be signed long before it is sent.
    same(post(name, [("key", "k")], [ANY_KEY], age=12)[0], 204)
    same(post(name, [("key", "k")], [["StArTs-WiTh", "$KeY", ""]], names=str.upper)[0], 204)


@scenario
def browsers_are_sent_on():
    name = bucket()
    fields = [("key", "a/ü"), ("success_action_redirect", "https://a.example/done?x=1")]
    answer = post(name, fields, [ANY_KEY, ["starts-with", "$success_action_redirect", "https://a.example/"]])
    etag = hashlib.md5(b"file data").hexdigest()
    query = f"bucket={name.replace('-', '%2D')}&key=a%2F%C3%BC&etag=%22{etag}%22"
    same((answer[0], answer[1]["Location"]), (303, f"https://a.example/done?x=1&{query}"))
    # What is no address leads nowhere.
    fields = [("key", "k"), ("success_action_redirect", "nowhere")]
    same(post(name, fields, [ANY_KEY, ["starts-with", "$success_action_redirect", ""]])[0], 204)


@scenario
def fields_describe_the_object():
    name = bucket()
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b &amp; c</Value></Tag></TagSet></Tagging>"
    sum_of = base64.b64encode(zlib.crc32(b"file data").to_bytes(4, "big")).decode()
    fields = {
        "key": "k", "Content-Type": "text/x", "Cache-Control": "no-store", "Content-Disposition": "inline",
        "Content-Encoding": "gzip", "Content-Language": "de", "x-amz-meta-from": "form", "acl": "private",
        "x-amz-storage-class": "STANDARD_IA", "x-amz-checksum-crc32": sum_of, "x-ignore-this": "1",
    }
    conditions = [["starts-with", f"${field}", ""] for field in fields if field != "x-ignore-this"]
    same(post(name, list(fields.items()), conditions)[0], 204)
    head = s3.head_object(Bucket=name, Key="k", ChecksumMode="ENABLED")
    same((head["ContentType"], head["CacheControl"], head["ContentDisposition"]), ("text/x", "no-store", "inline"))
    same((head["ContentEncoding"], head["ContentLanguage"], head["Metadata"]), ("gzip", "de", {"from": "form"}))
    same((head["StorageClass"], head["ChecksumCRC32"]), ("STANDARD_IA", sum_of))

    def with_field(field, value):
        return post(name, [("key", "t"), (field, value)], [ANY_KEY, ["starts-with", f"${field}", ""]])

    same(with_field("tagging", tags.replace(" &amp; ", "-"))[0], 204)
    same(s3.get_object_tagging(Bucket=name, Key="t")["TagSet"], [{"Key": "a", "Value": "b-c"}])
    code(with_field("tagging", "nonsense"), 400, "MalformedXML")
    code(with_field("tagging", tags), 400, "InvalidTag")
    code(with_field("acl", "public-read"), 400, "AccessControlListNotSupported")
    code(with_field("x-amz-checksum-crc32", "AAAAAA=="), 400, "BadDigest")
    code(with_field("x-amz-storage-class", "gold"), 400, "InvalidStorageClass")


@scenario
def policies_are_kept_to():
    name = bucket()
    key = [("key", "a")]
    for why, conditions, more in [
        ("AccessDenied", [["starts-with", "$key", "b"]], {}), ("AccessDenied", [ANY_KEY], {"expires": -1}),
        ("AccessDenied", [], {}), ("AccessDenied", [ANY_KEY, {"acl": "private"}], {}),
        ("SignatureDoesNotMatch", [ANY_KEY], {"signature": "0" * 64}),
    ]:
        code(post(name, key, conditions, **more), 403, why)
    code(post(name, [*key, ("x-amz-meta-more", "1")], [ANY_KEY]), 403, "AccessDenied")
    code(post(name, [*key, ("Content-Type", "text/a,image/b")], [ANY_KEY, ["starts-with", "$Content-Type", "text/"]]),
         403, "AccessDenied")
    soon = in_time().strftime("%Y-%m-%dT%H:%M:%SZ")
    for wrong in [b"{", b"{}", b'{"conditions": []}', json.dumps({"expiration": soon}).encode(),
                  json.dumps({"expiration": "soon", "conditions": []}).encode(),
                  json.dumps({"expiration": soon, "conditions": [["is", "$key", "a"]]}).encode(),
                  json.dumps({"expiration": soon, "conditions": [["content-length-range", -1, 0]]}).encode()]:
        code(post(name, key, [], policy=wrong), 400, "InvalidPolicyDocument")
    # The policy names the bucket.
    only_key = json.dumps({"expiration": soon, "conditions": [ANY_KEY]}).encode()
    code(post(name, key, [], policy=only_key, old=True), 403, "AccessDenied")
    data = pattern(300_000)
    for first, last, status, why in [(0, 300_000, 204, ""), (0, 299_999, 400, "EntityTooLarge"),
                                     (300_001, 400_000, 400, "EntityTooSmall"), ("0", "300000", 204, "")]:
        answer = post(name, [("key", f"s{first}")], [ANY_KEY, ["content-length-range", first, last]], data=data)
        same(answer[0], status)
        assert why.encode() in answer[2], answer[2]
    assert s3.get_object(Bucket=name, Key="s0")["Body"].read() == data
    refused(404, "404", s3.head_object, Bucket=name, Key="s300001")


@scenario
def forms_must_be_whole():
    name = bucket()
    code(post(name, [("key", "a")], [ANY_KEY], file=False), 400, "InvalidArgument")
    for fields in [[], [("key", "")]]:
        code(post(name, fields, [ANY_KEY]), 400, "InvalidArgument")
    code(send_form(name, [("key", "a"), ("AWSAccessKeyId", ACCESS_KEY), ("signature", "x")]), 400, "InvalidArgument")
    code(send_form(name, [("key", "a"), ("AWSAccessKeyId", ACCESS_KEY), ("policy", "x")]), 400, "InvalidArgument")
    code(send_form(name, [("key", "a"), ("AWSAccessKeyId", "nobody"), ("signature", "x"), ("policy", "x")]), 403,
         "InvalidAccessKeyId")
    code(send_form(name, [("key", "a")]), 403, "AccessDenied")
    code(send_form(name, [("key", "k" * 70_000)]), 400, "MaxPostPreDataLengthExceededError")
    code(raw("POST", f"/{name}", b"x", {"Content-Type": "multipart/form-data"}), 400, "MalformedPOSTRequest")
    code(raw("POST", f"/{name}", b"x", {"Content-Type": "multipart/form-data; boundary=b"}), 400, "MalformedPOSTRequest")
    code(raw("POST", f"/{name}/k", body_of([("key", "a")]), {
        "Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}), 405, "MethodNotAllowed")
    code(post("never-made-" + name, [("key", "a")], [ANY_KEY]), 404, "NoSuchBucket")


if __name__ == "__main__":
    run("forms")
