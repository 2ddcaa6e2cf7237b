"""What an application does with boto3 where a bucket keeps versions: writes, reads, delete markers, listings, restoring."""

from boto3_scenarios import bucket, refused, s3, same
from harness import pattern, run, scenario, start_anew

start_anew()


def keep(name, status="Enabled"):
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


def kept(status="Enabled"):
    name = bucket()
    keep(name, status)
    return name


def put(name, key, body=b"x", **more):
    return s3.put_object(Bucket=name, Key=key, Body=body, **more)["VersionId"]


def body(name, key, **more):
    return s3.get_object(Bucket=name, Key=key, **more)["Body"].read()


def pages(name, **arguments):
    """All versions and markers of a listing, in pages."""
    found = {"Versions": [], "DeleteMarkers": [], "CommonPrefixes": []}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, **arguments):
        for kind, items in found.items():
            items.extend(page.get(kind, []))
    return found


def empty(name):
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, PaginationConfig={"PageSize": 3}):
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"])
    s3.delete_bucket(Bucket=name)


@scenario
def the_state_is_told_as_it_was_set():
    name = bucket()
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    for status in ["Enabled", "Suspended", "Enabled"]:
        keep(name, status)
        same(s3.get_bucket_versioning(Bucket=name)["Status"], status)
    refused(400, "MalformedXML", s3.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Off"})
    refused(400, "IllegalVersioningConfigurationException", s3.put_bucket_versioning, Bucket=name,
            VersioningConfiguration={})
    refused(501, "NotImplemented", s3.put_bucket_versioning, Bucket=name,
            VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})
    empty(name)


@scenario
def every_write_is_a_version_of_its_own():
    name = bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"first")
    assert "VersionId" not in s3.get_object(Bucket=name, Key="k")
    keep(name)
    ids = [put(name, "k", pattern(size, size)) for size in (5, 300_000, 20_000)]
    assert len(set(ids)) == 3
    same(s3.head_object(Bucket=name, Key="k")["VersionId"], ids[2])
    same(body(name, "k", VersionId="null"), b"first")
    for version, size in zip(ids, (5, 300_000, 20_000)):
        got = s3.get_object(Bucket=name, Key="k", VersionId=version)
        same((got["VersionId"], got["ContentLength"]), (version, size))
        same(got["Body"].read(), pattern(size, size))
        same(body(name, "k", VersionId=version, Range="bytes=1-3"), pattern(size, size)[1:4])
    listed = pages(name)["Versions"]
    same([entry["VersionId"] for entry in listed], [*reversed(ids), "null"])
    same([entry["IsLatest"] for entry in listed], [True, False, False, False])
    same([entry["Size"] for entry in listed], [20_000, 300_000, 5, 5])
    refused(404, "NoSuchVersion", s3.get_object, Bucket=name, Key="k", VersionId="0" * 32)
    refused(400, "InvalidArgument", s3.get_object, Bucket=name, Key="k", VersionId="no such id")
    s3.delete_object(Bucket=name, Key="k", VersionId=ids[2])
    same(body(name, "k"), pattern(300_000, 300_000))
    empty(name)


@scenario
def delete_markers_hide_until_they_go():
    name = kept()
    first = put(name, "k", b"body")
    gone = s3.delete_object(Bucket=name, Key="k")
    assert gone["DeleteMarker"] and gone["VersionId"] != first
    hidden = refused(404, "NoSuchKey", s3.get_object, Bucket=name, Key="k")["ResponseMetadata"]["HTTPHeaders"]
    same((hidden["x-amz-delete-marker"], hidden["x-amz-version-id"]), ("true", gone["VersionId"]))
    refused(404, "404", s3.head_object, Bucket=name, Key="k")
    asked = refused(405, "MethodNotAllowed", s3.get_object, Bucket=name, Key="k", VersionId=gone["VersionId"])
    same(asked["ResponseMetadata"]["HTTPHeaders"]["allow"], "DELETE")
    assert "last-modified" in asked["ResponseMetadata"]["HTTPHeaders"]
    same(s3.list_objects_v2(Bucket=name)["KeyCount"], 0)
    assert "Contents" not in s3.list_objects(Bucket=name)
    listed = pages(name)
    same([(entry["VersionId"], entry["IsLatest"]) for entry in listed["DeleteMarkers"]], [(gone["VersionId"], True)])
    same([(entry["VersionId"], entry["IsLatest"]) for entry in listed["Versions"]], [(first, False)])
    refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket=name)
    again = s3.delete_object(Bucket=name, Key="k", VersionId=gone["VersionId"])
    same((again["DeleteMarker"], again["VersionId"]), (True, gone["VersionId"]))
    same(body(name, "k"), b"body")
    assert s3.delete_object(Bucket=name, Key="never")["DeleteMarker"]
    empty(name)


@scenario
def a_suspended_bucket_replaces_null():
    name = kept()
    first = put(name, "k", b"one")
    keep(name, "Suspended")
    same([put(name, "k", b"two"), put(name, "k", b"three")], ["null", "null"])
    same([entry["VersionId"] for entry in pages(name)["Versions"]], ["null", first])
    gone = s3.delete_object(Bucket=name, Key="k")
    same((gone["DeleteMarker"], gone["VersionId"]), (True, "null"))
    same([entry["VersionId"] for entry in pages(name)["Versions"]], [first])
    s3.delete_object(Bucket=name, Key="k", VersionId="null")
    same(body(name, "k"), b"one")
    empty(name)


@scenario
def listings_page_through_versions():
    name = kept()
    for turn in range(5):
        for key in ["a", "b/1", "b/2", "c ä"]:
            put(name, key, str(turn).encode())
    s3.delete_object(Bucket=name, Key="a")
    for size in [1, 2, 7, 1000]:
        found = pages(name, PaginationConfig={"PageSize": size})
        same((len(found["Versions"]), len(found["DeleteMarkers"])), (20, 1))
        same([entry["Key"] for entry in found["Versions"]], ["a"] * 5 + ["b/1"] * 5 + ["b/2"] * 5 + ["c ä"] * 5)
        latest = [entry["Key"] for entry in found["Versions"] if entry["IsLatest"]]
        same(latest, ["b/1", "b/2", "c ä"])
        folded = pages(name, Delimiter="/", PaginationConfig={"PageSize": size})
        same([entry["Prefix"] for entry in folded["CommonPrefixes"]], ["b/"])
        same(len(folded["Versions"]), 10)
        same(len(pages(name, Prefix="b/", PaginationConfig={"PageSize": size})["Versions"]), 10)
    page = s3.list_object_versions(Bucket=name, KeyMarker="b/1", EncodingType="url")
    same([entry["Key"] for entry in page["Versions"]][:6], ["b/2"] * 5 + ["c%20%C3%A4"])
    refused(400, "InvalidArgument", s3.list_object_versions, Bucket=name, VersionIdMarker="null")
    empty(name)


@scenario
def many_versions_are_deleted_at_once():
    name = kept()
    first, second = put(name, "a", b"1"), put(name, "a", b"2")
    put(name, "b", b"3")
    objects = [{"Key": "a", "VersionId": first}, {"Key": "b"}, {"Key": "c", "VersionId": "nonsense"}]
    answer = s3.delete_objects(Bucket=name, Delete={"Objects": objects})
    told = {entry["Key"]: entry for entry in answer["Deleted"]}
    same((told["a"]["VersionId"], "DeleteMarker" in told["a"]), (first, False))
    marker = told["b"]["DeleteMarkerVersionId"]
    assert told["b"]["DeleteMarker"] and "VersionId" not in told["b"]
    same([(entry["Key"], entry["Code"]) for entry in answer["Errors"]], [("c", "InvalidArgument")])
    answer = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "b", "VersionId": marker}]})
    gone = answer["Deleted"][0]
    same((gone["VersionId"], gone["DeleteMarker"], gone["DeleteMarkerVersionId"]), (marker, True, marker))
    same((body(name, "a"), body(name, "b")), (b"2", b"3"))
    same([entry["VersionId"] for entry in pages(name, Prefix="a")["Versions"]], [second])
    empty(name)


@scenario
def versions_are_copied_and_restored():
    name = kept()
    first = put(name, "k", pattern(400_000), Metadata={"turn": "1"})
    put(name, "k", b"newer")
    source = {"Bucket": name, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=name, Key="k", CopySource=source)
    same(copied["CopySourceVersionId"], first)
    head = s3.head_object(Bucket=name, Key="k")
    same((head["VersionId"], head["Metadata"]), (copied["VersionId"], {"turn": "1"}))
    same(body(name, "k"), pattern(400_000))
    upload = s3.create_multipart_upload(Bucket=name, Key="m")["UploadId"]
    part = s3.upload_part_copy(Bucket=name, Key="m", UploadId=upload, PartNumber=1, CopySource=source,
                               CopySourceRange="bytes=10-99")
    same(part["CopySourceVersionId"], first)
    parts = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
    done = s3.complete_multipart_upload(Bucket=name, Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
    same(body(name, "m", VersionId=done["VersionId"]), pattern(400_000)[10:100])
    marker = s3.delete_object(Bucket=name, Key="k")["VersionId"]
    refused(400, "InvalidRequest", s3.copy_object, Bucket=name, Key="x", CopySource={**source, "VersionId": marker})
    empty(name)


@scenario
def tags_and_attributes_are_those_of_a_version():
    name = kept()
    first, second = put(name, "k", b"1", Tagging="a=1"), put(name, "k", b"22")
    tags = {"TagSet": [{"Key": "b", "Value": "2"}]}
    same(s3.put_object_tagging(Bucket=name, Key="k", VersionId=first, Tagging=tags)["VersionId"], first)
    got = s3.get_object_tagging(Bucket=name, Key="k", VersionId=first)
    same((got["TagSet"], got["VersionId"]), (tags["TagSet"], first))
    same(s3.get_object_tagging(Bucket=name, Key="k")["TagSet"], [])
    s3.delete_object_tagging(Bucket=name, Key="k", VersionId=first)
    same(s3.get_object_tagging(Bucket=name, Key="k", VersionId=first)["TagSet"], [])
    told = s3.get_object_attributes(Bucket=name, Key="k", VersionId=first, ObjectAttributes=["ObjectSize"])
    same((told["ObjectSize"], told["VersionId"]), (1, first))
    told = s3.get_object_attributes(Bucket=name, Key="k", ObjectAttributes=["ObjectSize"])
    same((told["ObjectSize"], told["VersionId"]), (2, second))
    empty(name)


@scenario
def conditions_are_about_the_current_version():
    name = kept()
    first = s3.put_object(Bucket=name, Key="k", Body=b"1", IfNoneMatch="*")
    refused(412, "PreconditionFailed", s3.put_object, Bucket=name, Key="k", Body=b"2", IfNoneMatch="*")
    second = s3.put_object(Bucket=name, Key="k", Body=b"2", IfMatch=first["ETag"])
    refused(412, "PreconditionFailed", s3.put_object, Bucket=name, Key="k", Body=b"3", IfMatch=first["ETag"])
    assert second["VersionId"] != first["VersionId"]
    s3.delete_object(Bucket=name, Key="k")
    s3.put_object(Bucket=name, Key="k", Body=b"3", IfNoneMatch="*")
    empty(name)


@scenario
def lifecycle_rules_reach_versions():
    name = kept()
    rule = {"ID": "one", "Status": "Enabled", "Filter": {"Prefix": "logs/"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30, "NewerNoncurrentVersions": 3},
            "Expiration": {"ExpiredObjectDeleteMarker": True}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    same(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], [rule])
    wrong = {**rule, "NoncurrentVersionExpiration": {"NoncurrentDays": 30, "NewerNoncurrentVersions": 101}}
    refused(400, "InvalidArgument", s3.put_bucket_lifecycle_configuration, Bucket=name,
            LifecycleConfiguration={"Rules": [wrong]})
    empty(name)


if __name__ == "__main__":
    run("versions")
