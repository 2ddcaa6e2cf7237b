"""What an administrator does with boto3: cross-origin rules, lifecycle, policies, tags, blocks of public access."""

import json
import urllib.error
import urllib.request

import boto3
from botocore import UNSIGNED
from botocore.client import Config

from boto3_scenarios import bucket, refused, s3, same
from harness import ENDPOINT, run, scenario, start_anew

start_anew()

anyone = boto3.client(
    "s3", endpoint_url=ENDPOINT, region_name="us-east-1",
    config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
)


def allow(name, action, *paths, effect="Allow"):
    resources = [f"arn:aws:s3:::{name}{path}" for path in paths]
    return {"Sid": "one", "Effect": effect, "Principal": "*", "Action": action, "Resource": resources}


def set_policy(name, *statements):
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    s3.put_bucket_policy(Bucket=name, Policy=policy)
    return policy


@scenario
def cross_origin_rules_are_kept_and_followed():
    name = bucket()
    rule = {
        "ID": "web", "AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 300,
    }
    s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
    same(s3.get_bucket_cors(Bucket=name)["CORSRules"], [rule])
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    asked = urllib.request.Request(f"{ENDPOINT}/{name}/k", headers=headers, method="OPTIONS")
    same(urllib.request.urlopen(asked).headers["Access-Control-Allow-Origin"], "https://a.example")
    for bad in ["PATCH", "get"]:
        refused(400, "InvalidRequest", s3.put_bucket_cors, Bucket=name,
                CORSConfiguration={"CORSRules": [{**rule, "AllowedMethods": [bad]}]})
    refused(400, "MalformedXML", s3.put_bucket_cors, Bucket=name, CORSConfiguration={"CORSRules": []})
    s3.delete_bucket_cors(Bucket=name)
    refused(404, "NoSuchCORSConfiguration", s3.get_bucket_cors, Bucket=name)
    s3.delete_bucket_cors(Bucket=name)


@scenario
def lifecycle_rules_are_kept():
    name = bucket()
    rules = [
        {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]

    def put(rules):
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})

    put(rules)
    same(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], rules)
    one = rules[0]
    for code, status, wrong in [
        ("InvalidArgument", 400, [{**one, "Expiration": {"Days": 0}}]),
        ("InvalidArgument", 400, [one, one]),
        ("InvalidArgument", 400, [{**one, "ID": "i" * 256}]),
        ("InvalidArgument", 400, [{**one, "Expiration": {"Date": "2030-01-01T12:00:00Z"}}]),
        ("MalformedXML", 400, [{**one, "Status": "enabled"}]),
        ("NotImplemented", 501, [{**one, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}]),
    ]:
        refused(status, code, lambda **_: put(wrong))
    same(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], rules)
    s3.delete_bucket_lifecycle(Bucket=name)
    refused(404, "NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration, Bucket=name)


@scenario
def lifecycle_filters_come_back_as_they_went():
    name = bucket()
    tag, other = {"Key": "kind", "Value": "log"}, {"Key": "b", "Value": ""}
    ends = {"Status": "Enabled", "Expiration": {"Days": 1}}
    filters = [{}, {"Prefix": ""}, {"Prefix": "a/"}, {"Tag": tag}, {"ObjectSizeGreaterThan": 0},
               {"ObjectSizeLessThan": 10}, {"And": {"Prefix": "a/", "Tags": [tag]}}, {"And": {"Tags": [tag, other]}},
               {"And": {"ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 1000}},
               {"And": {"Prefix": "", "Tags": [tag], "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 1000}}]
    rules = [{"ID": f"r{index}", "Filter": filter, **ends} for index, filter in enumerate(filters)]
    rules.append({"ID": "bare", "Prefix": "b/", **ends})

    def put(rules):
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})

    put(rules)
    same(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], rules)
    abort = {"Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    marker = {"Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}}
    for code, wrong in [
        ("MalformedXML", {"Filter": {"Prefix": "a", "Tag": tag}, **ends}),
        ("MalformedXML", {"Filter": {"And": {"Prefix": "a"}}, **ends}),
        ("MalformedXML", {"Filter": {"And": {"Prefix": "a", "Tags": [tag]}, "ObjectSizeLessThan": 1}, **ends}),
        ("InvalidRequest", {"Filter": {"And": {"Tags": [tag, tag]}}, **ends}),
        ("InvalidRequest", {"Filter": {"And": {"ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 5}}, **ends}),
        ("InvalidRequest", {"Filter": {"ObjectSizeGreaterThan": -1}, **ends}),
        ("InvalidTag", {"Filter": {"Tag": {"Key": "k" * 129, "Value": ""}}, **ends}),
        ("InvalidRequest", {"Filter": {"Tag": tag}, **abort}),
        ("InvalidRequest", {"Filter": {"ObjectSizeLessThan": 5}, **abort}),
        ("InvalidRequest", {"Filter": {"Tag": tag}, **marker}),
    ]:
        refused(400, code, lambda **_: put([wrong]))
    # What is told of an object goes by its tags and its size.
    put([{"ID": "tag", "Filter": {"Tag": tag}, **ends},
         {"ID": "size", "Filter": {"ObjectSizeGreaterThan": 9}, **ends}])
    for key, body, tagging, rule in [("t", b"", "kind=log", "tag"), ("u", b"", "kind=other", None),
                                     ("s", b"0123456789", "", "size"), ("v", b"012345678", "", None)]:
        wrote = s3.put_object(Bucket=name, Key=key, Body=body, Tagging=tagging)
        answers = [wrote, s3.head_object(Bucket=name, Key=key), s3.get_object(Bucket=name, Key=key)]
        if len(body) > 2:
            answers.append(s3.get_object(Bucket=name, Key=key, Range="bytes=1-1"))
        for answer in answers:
            same(f'rule-id="{rule}"' in answer.get("Expiration", ""), rule is not None)


@scenario
def policies_open_what_they_name():
    name = bucket()
    s3.put_object(Bucket=name, Key="pub/a", Body=b"x")
    s3.put_object(Bucket=name, Key="own", Body=b"x")
    refused(403, "AccessDenied", anyone.get_object, Bucket=name, Key="pub/a")
    text = set_policy(name, allow(name, "s3:GetObject", "/pub/*"))
    same(s3.get_bucket_policy(Bucket=name)["Policy"], text)
    same(s3.get_bucket_policy_status(Bucket=name)["PolicyStatus"]["IsPublic"], True)
    same(anyone.get_object(Bucket=name, Key="pub/a")["Body"].read(), b"x")
    same(anyone.head_object(Bucket=name, Key="pub/a")["ContentLength"], 1)
    same(urllib.request.urlopen(f"{ENDPOINT}/{name}/pub/a").read(), b"x")
    refused(403, "AccessDenied", anyone.get_object, Bucket=name, Key="own")
    refused(403, "AccessDenied", anyone.get_object, Bucket=name, Key="pub/none")
    refused(403, "AccessDenied", anyone.put_object, Bucket=name, Key="pub/b", Body=b"x")
    refused(403, "AccessDenied", anyone.list_objects_v2, Bucket=name)
    refused(403, "AccessDenied", anyone.get_bucket_policy, Bucket=name)
    set_policy(name, allow(name, ["s3:ListBucket", "s3:PutObject", "s3:GetObject"], "", "/*"),
               allow(name, "s3:PutObject", "/pub/*", effect="Deny"))
    same(anyone.list_objects_v2(Bucket=name)["KeyCount"], 2)
    anyone.put_object(Bucket=name, Key="new", Body=b"y")
    upload = anyone.create_multipart_upload(Bucket=name, Key="big")["UploadId"]
    refused(403, "AccessDenied", anyone.abort_multipart_upload, Bucket=name, Key="big", UploadId=upload)
    for who in [anyone, s3]:
        refused(403, "AccessDenied", who.put_object, Bucket=name, Key="pub/b", Body=b"x")
    refused(404, "NoSuchKey", anyone.get_object, Bucket=name, Key="none")
    refused(403, "AccessDenied", anyone.delete_object, Bucket=name, Key="new")
    refused(403, "AccessDenied", anyone.get_object_tagging, Bucket=name, Key="new")
    same(anyone.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "new"}]})["Errors"][0]["Code"], "AccessDenied")
    s3.delete_bucket_policy(Bucket=name)
    refused(404, "NoSuchBucketPolicy", s3.get_bucket_policy, Bucket=name)
    refused(403, "AccessDenied", anyone.get_object, Bucket=name, Key="new")


@scenario
def policies_have_variables():
    name = bucket()
    for key in ["all/k", "star/*/k", "star/x/k"]:
        s3.put_object(Bucket=name, Key=key, Body=b"x")

    def opens(path, key, want, version="2012-10-17", condition=None):
        statement = {**allow(name, "s3:GetObject", path), **({"Condition": condition} if condition else {})}
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": version, "Statement": [statement]}))
        if want:
            anyone.get_object(Bucket=name, Key=key)
        else:
            refused(403, "AccessDenied", anyone.get_object, Bucket=name, Key=key)

    opens("/${aws:username, 'all'}/*", "all/k", True)
    opens("/${aws:username, 'one'}/*", "all/k", False)
    opens("/${aws:username}/*", "all/k", False)
    opens("/star/${*}/*", "star/*/k", True)
    opens("/star/${*}/*", "star/x/k", False)
    opens("/star/${aws:PrincipalType, '*'}/*", "star/x/k", False)
    opens("/*", "all/k", True, condition={"StringEquals": {"aws:userid": "anonymous"}})
    opens("/*", "all/k", True, condition={"StringEquals": {"aws:PrincipalType": "${aws:PrincipalType}"}})
    opens("/*", "all/k", False, "2008-10-17", {"StringEquals": {"aws:PrincipalType": "${aws:PrincipalType}"}})
    opens("/*", "all/k", True, condition={"Null": {"s3:signatureAge": "true"}})
    for path, why in [("/${aws:username", (400, "MalformedPolicy")), ("/${aws:nothing}/*", (501, "NotImplemented"))]:
        refused(*why, lambda path=path: opens(path, "all/k", True))


@scenario
def public_access_can_be_blocked():
    name = bucket()
    refused(404, "NoSuchPublicAccessBlockConfiguration", s3.get_public_access_block, Bucket=name)
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": True,
             "RestrictPublicBuckets": False}
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
    same(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"], block)
    refused(403, "AccessDenied", lambda **_: set_policy(name, allow(name, "s3:GetObject", "/*")))
    set_policy(name, allow(name, "s3:PutObject", "/*", effect="Deny"))
    s3.delete_public_access_block(Bucket=name)
    set_policy(name, allow(name, "s3:GetObject", "/*"))


@scenario
def objects_are_their_buckets():
    name = bucket()
    rules = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    same(rules, [{"ObjectOwnership": "BucketOwnerEnforced"}])
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls={"Rules": rules})
    refused(501, "NotImplemented", s3.put_bucket_ownership_controls, Bucket=name,
            OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    s3.delete_bucket_ownership_controls(Bucket=name)
    s3.put_bucket_acl(Bucket=name, ACL="private")
    refused(400, "AccessControlListNotSupported", s3.put_bucket_acl, Bucket=name, ACL="public-read")
    s3.put_object(Bucket=name, Key="o", Body=b"", ACL="bucket-owner-full-control")
    refused(400, "AccessControlListNotSupported", s3.put_object, Bucket=name, Key="p", Body=b"", ACL="public-read")
    s3.put_object_acl(Bucket=name, Key="o", ACL="bucket-owner-full-control")
    refused(400, "AccessControlListNotSupported", s3.put_object_acl, Bucket=name, Key="o", ACL="public-read")
    got = s3.get_object_acl(Bucket=name, Key="o")
    same((len(got["Grants"]), got["Grants"][0]["Permission"]), (1, "FULL_CONTROL"))
    same(got["Grants"][0]["Grantee"]["ID"], got["Owner"]["ID"])


def tags(**pairs):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in pairs.items()]}


@scenario
def tags_are_kept_with_buckets_and_objects():
    name = bucket()
    s3.put_bucket_tagging(Bucket=name, Tagging=tags(team="a", cost="b c"))
    same(s3.get_bucket_tagging(Bucket=name)["TagSet"], tags(team="a", cost="b c")["TagSet"])
    s3.delete_bucket_tagging(Bucket=name)
    refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=name)
    put = s3.put_object(Bucket=name, Key="o", Body=b"x", Tagging="k=v&empty=&u=%C3%BC")
    same(s3.head_object(Bucket=name, Key="o")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"], "3")
    same(s3.get_object_tagging(Bucket=name, Key="o")["TagSet"], tags(k="v", empty="", u="ü")["TagSet"])
    s3.put_object_tagging(Bucket=name, Key="o", Tagging=tags(k="w"))
    same(s3.get_object_tagging(Bucket=name, Key="o")["TagSet"], tags(k="w")["TagSet"])
    same(s3.head_object(Bucket=name, Key="o")["ETag"], put["ETag"])
    s3.copy_object(Bucket=name, Key="c", CopySource=f"{name}/o")
    same(s3.get_object_tagging(Bucket=name, Key="c")["TagSet"], tags(k="w")["TagSet"])
    s3.copy_object(Bucket=name, Key="d", CopySource=f"{name}/o", TaggingDirective="REPLACE", Tagging="n=m")
    same(s3.get_object_tagging(Bucket=name, Key="d")["TagSet"], tags(n="m")["TagSet"])
    s3.delete_object_tagging(Bucket=name, Key="o")
    same(s3.get_object_tagging(Bucket=name, Key="o")["TagSet"], [])
    many = {"TagSet": [{"Key": f"k{i}", "Value": ""} for i in range(11)]}
    refused(400, "BadRequest", s3.put_object_tagging, Bucket=name, Key="o", Tagging=many)
    refused(400, "InvalidTag", s3.put_object_tagging, Bucket=name, Key="o", Tagging=tags(k="v" * 257))
    refused(400, "InvalidTag", s3.put_object_tagging, Bucket=name, Key="o", Tagging=tags(**{"k" * 129: ""}))
    refused(404, "NoSuchKey", s3.get_object_tagging, Bucket=name, Key="none")
    refused(404, "NoSuchKey", s3.put_object_tagging, Bucket=name, Key="none", Tagging=tags(a="b"))


@scenario
def attributes_tell_what_head_tells():
    name = bucket()
    put = s3.put_object(Bucket=name, Key="o", Body=b"x" * 1000, ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(Bucket=name, Key="o",
                                   ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"])
    same((got["ETag"], got["ObjectSize"], got["StorageClass"]), (put["ETag"].strip('"'), 1000, "STANDARD"))
    same(got["Checksum"], {"ChecksumSHA256": put["ChecksumSHA256"], "ChecksumType": "FULL_OBJECT"})
    assert "ObjectParts" not in got and got["LastModified"]
    only = s3.get_object_attributes(Bucket=name, Key="o", ObjectAttributes=["ObjectSize"])
    assert "ETag" not in only and "Checksum" not in only
    refused(404, "NoSuchKey", s3.get_object_attributes, Bucket=name, Key="none", ObjectAttributes=["ETag"])


@scenario
def what_is_not_there_is_said_so():
    name = bucket()
    refused(501, "NotImplemented", s3.put_bucket_website, Bucket=name,
            WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
    refused(501, "NotImplemented", s3.put_bucket_encryption, Bucket=name, ServerSideEncryptionConfiguration={
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]})
    refused(501, "NotImplemented", s3.put_bucket_logging, Bucket=name, BucketLoggingStatus={
        "LoggingEnabled": {"TargetBucket": name, "TargetPrefix": ""}})
    refused(501, "NotImplemented", s3.put_bucket_accelerate_configuration, Bucket=name,
            AccelerateConfiguration={"Status": "Enabled"})
    refused(501, "NotImplemented", s3.put_bucket_request_payment, Bucket=name,
            RequestPaymentConfiguration={"Payer": "Requester"})
    refused(501, "NotImplemented", s3.list_bucket_inventory_configurations, Bucket=name)
    refused(501, "NotImplemented", s3.put_object, Bucket=name, Key="k", Body=b"", ServerSideEncryption="aws:kms")


if __name__ == "__main__":
    run("buckets")
