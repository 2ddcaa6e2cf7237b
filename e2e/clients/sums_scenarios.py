"""Checksums of parts and of the objects that they become: kept, told, compared, refused, as S3 documents it."""

import base64
import hashlib
import zlib

from boto3_scenarios import bucket, client, refused, s3, same
from harness import pattern, run, scenario, start_anew
from protocol_scenarios import code, send

start_anew()

PART = 5 << 20
BODIES = [pattern(PART, 31), pattern(PART + 3, 32), pattern(9, 33)]
# Sends no checksum unless told to.
plain = client(request_checksum_calculation="when_required", response_checksum_validation="when_required")


def raw_sum(algorithm, body):
    if algorithm == "CRC32":
        return zlib.crc32(body).to_bytes(4, "big")
    return hashlib.new(algorithm.lower(), body).digest()


def text_sum(algorithm, body):
    return base64.b64encode(raw_sum(algorithm, body)).decode()


def opened(name, key, algorithm=None, kind=None):
    more = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    if kind:
        more["ChecksumType"] = kind
    made = plain.create_multipart_upload(Bucket=name, Key=key, **more)
    return {"Bucket": name, "Key": key, "UploadId": made["UploadId"]}, made


def filled(target, algorithm, bodies=BODIES):
    """The list that completes the upload."""
    listed = []
    for number, body in enumerate(bodies, 1):
        want = {f"Checksum{algorithm}": text_sum(algorithm, body)}
        got = plain.upload_part(**target, PartNumber=number, Body=body, **want)
        same(got[f"Checksum{algorithm}"], want[f"Checksum{algorithm}"])
        listed.append({"PartNumber": number, "ETag": got["ETag"], **want})
    return listed


@scenario
def parts_keep_their_checksums():
    name = bucket()
    for algorithm, kind in [("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("CRC32", "COMPOSITE"),
                            ("CRC32", "FULL_OBJECT")]:
        key, field = f"{algorithm}-{kind}", f"Checksum{algorithm}"
        target, made = opened(name, key, algorithm, kind)
        same((made["ChecksumAlgorithm"], made["ChecksumType"]), (algorithm, kind))
        listed = filled(target, algorithm)
        sums = [text_sum(algorithm, body) for body in BODIES]
        shown = s3.list_parts(**target)
        same((shown["ChecksumAlgorithm"], shown["ChecksumType"]), (algorithm, kind))
        same([part[field] for part in shown["Parts"]], sums)
        done = plain.complete_multipart_upload(**target, MultipartUpload={"Parts": listed})
        whole = text_sum(algorithm, b"".join(BODIES))
        if kind == "COMPOSITE":
            whole = text_sum(algorithm, b"".join(raw_sum(algorithm, body) for body in BODIES)) + "-3"
        same((done[field], done["ChecksumType"]), (whole, kind))
        told = s3.get_object_attributes(Bucket=name, Key=key, ObjectAttributes=["Checksum", "ObjectParts"])
        same((told["Checksum"][field], told["Checksum"]["ChecksumType"]), (whole, kind))
        same([(part["PartNumber"], part["Size"], part[field]) for part in told["ObjectParts"]["Parts"]],
             [(number, len(body), text_sum(algorithm, body)) for number, body in enumerate(BODIES, 1)])
        for number, body in enumerate(BODIES, 1):
            for call in [plain.head_object, plain.get_object]:
                got = call(Bucket=name, Key=key, PartNumber=number, ChecksumMode="ENABLED")
                same((got[field], got["ChecksumType"]), (text_sum(algorithm, body), kind))
            assert field not in plain.head_object(Bucket=name, Key=key, PartNumber=number)
        # What the client verifies by itself.
        same(s3.get_object(Bucket=name, Key=key, PartNumber=3)["Body"].read(), BODIES[2])
    s3.put_object(Bucket=name, Key="single", Body=b"bytes", ChecksumAlgorithm="SHA256")
    got = plain.head_object(Bucket=name, Key="single", PartNumber=1, ChecksumMode="ENABLED")
    same(got["ChecksumSHA256"], text_sum("SHA256", b"bytes"))


@scenario
def parts_come_with_the_checksum_that_was_announced():
    name = bucket()

    def mismatch(expected, actual, target, **more):
        error = refused(400, "InvalidRequest", plain.upload_part, **target, PartNumber=1, Body=b"x", **more)
        same(error["Error"]["Message"], "Checksum Type mismatch occurred, expected checksum Type: "
             f"{expected}, actual checksum Type: {actual}")

    target, _ = opened(name, "composite", "SHA256")
    mismatch("sha256", "crc32", target, ChecksumCRC32=text_sum("CRC32", b"x"))
    mismatch("sha256", "crc32", target, ChecksumAlgorithm="CRC32")
    mismatch("sha256", "null", target)
    target, _ = opened(name, "full", "CRC32", "FULL_OBJECT")
    mismatch("crc32", "sha1", target, ChecksumSHA1=text_sum("SHA1", b"x"))
    # Who is to get a checksum of the whole need not send any.
    got = plain.upload_part(**target, PartNumber=1, Body=b"x")
    same(got["ChecksumCRC32"], text_sum("CRC32", b"x"))
    # Where nothing was announced, any will do.
    target, _ = opened(name, "open")
    for algorithm in ["CRC32", "SHA1", "SHA256"]:
        plain.upload_part(**target, PartNumber=1, Body=b"x", **{f"Checksum{algorithm}": text_sum(algorithm, b"x")})
    refused(400, "BadDigest", plain.upload_part, **target, PartNumber=1, Body=b"x",
            ChecksumCRC32=text_sum("CRC32", b"y"))


@scenario
def completions_are_held_to_the_checksums():
    name = bucket()
    target, _ = opened(name, "sha", "SHA256")
    listed = filled(target, "SHA256")

    def complete(parts, **more):
        return plain.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **more)

    wrong = [{**listed[0], "ChecksumSHA256": listed[1]["ChecksumSHA256"]}, *listed[1:]]
    refused(400, "InvalidPart", complete, parts=wrong)
    other = [{"PartNumber": 1, "ETag": listed[0]["ETag"], "ChecksumCRC32": text_sum("CRC32", BODIES[0])}, *listed[1:]]
    refused(400, "InvalidPart", complete, parts=other)
    bare = [{"PartNumber": 1, "ETag": listed[0]["ETag"]}, *listed[1:]]
    refused(400, "InvalidRequest", complete, parts=bare)
    refused(400, "InvalidPartOrder", complete, parts=listed[1:])
    refused(400, "InvalidRequest", complete, parts=listed, MpuObjectSize=5)
    refused(400, "InvalidRequest", complete, parts=listed, ChecksumType="FULL_OBJECT")
    refused(400, "BadDigest", complete, parts=listed, ChecksumSHA256=text_sum("SHA256", b"other") + "-3")
    whole = text_sum("SHA256", b"".join(raw_sum("SHA256", body) for body in BODIES)) + "-3"
    size = sum(len(body) for body in BODIES)
    done = complete(listed, ChecksumSHA256=whole, ChecksumType="COMPOSITE", MpuObjectSize=size)
    same(done["ChecksumSHA256"], whole)
    again = complete(listed)
    same((again["ChecksumSHA256"], again["ChecksumType"], again["ETag"]), (whole, "COMPOSITE", done["ETag"]))
    # Opened without an algorithm: one of the whole is not looked at, but the one that S3 keeps by itself.
    target, _ = opened(name, "open")
    etag = plain.upload_part(**target, PartNumber=7, Body=b"x")["ETag"]
    done = complete([{"PartNumber": 7, "ETag": etag}], ChecksumCRC32=text_sum("CRC32", b"other"))
    same((done["ChecksumType"], "ChecksumCRC32" in done), ("FULL_OBJECT", False))


@scenario
def algorithms_have_their_kinds():
    name = bucket()
    for algorithm, kind in [("CRC32", "COMPOSITE"), ("CRC32C", "COMPOSITE"), ("SHA1", "COMPOSITE"),
                            ("SHA256", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT")]:
        same(opened(name, "k", algorithm)[1]["ChecksumType"], kind)
    for algorithm in ["CRC32", "CRC32C"]:
        same(opened(name, "k", algorithm, "FULL_OBJECT")[1]["ChecksumType"], "FULL_OBJECT")
    for algorithm, kind in [("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")]:
        error = refused(400, "InvalidRequest", plain.create_multipart_upload, Bucket=name, Key="k",
                        ChecksumAlgorithm=algorithm, ChecksumType=kind)
        same(error["Error"]["Message"],
             f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.")
    code(send("POST", f"/{name}/k?uploads", headers={"x-amz-checksum-algorithm": "ROT13"}), 400, "InvalidRequest")
    code(send("POST", f"/{name}/k?uploads", headers={"x-amz-checksum-type": "COMPOSITE"}), 400, "InvalidRequest")


@scenario
def copied_parts_have_the_checksum_of_their_upload():
    name = bucket()
    s3.put_object(Bucket=name, Key="source", Body=BODIES[0], ChecksumAlgorithm="CRC32")
    target, _ = opened(name, "copy", "SHA256")
    copied = plain.upload_part_copy(**target, PartNumber=1, CopySource=f"{name}/source")["CopyPartResult"]
    same(copied["ChecksumSHA256"], text_sum("SHA256", BODIES[0]))
    last = plain.upload_part(**target, PartNumber=2, Body=b"x", ChecksumSHA256=text_sum("SHA256", b"x"))
    done = plain.complete_multipart_upload(**target, MultipartUpload={"Parts": [
        {"PartNumber": 1, "ETag": copied["ETag"], "ChecksumSHA256": copied["ChecksumSHA256"]},
        {"PartNumber": 2, "ETag": last["ETag"], "ChecksumSHA256": last["ChecksumSHA256"]}]})
    same(done["ChecksumSHA256"], text_sum("SHA256", raw_sum("SHA256", BODIES[0]) + raw_sum("SHA256", b"x")) + "-2")
    head = plain.head_object(Bucket=name, Key="copy", PartNumber=1, ChecksumMode="ENABLED")
    same(head["ChecksumSHA256"], text_sum("SHA256", BODIES[0]))


if __name__ == "__main__":
    run("sums")
