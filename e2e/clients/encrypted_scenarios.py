"""boto3 over TLS, where it sends uploads in chunks of HTTP around those of S3, with the checksum behind them and no length."""

import io
import os
import queue
import subprocess
import threading
import time

import boto3
from botocore.config import Config
from harness import ACCESS_KEY, SECRET_KEY, pattern, run, scenario

WORK = os.environ["WORK"]
START_SECONDS = 60
# A clean stop drains its connections first.
END_SECONDS = 30
PART = 5 << 20


def certificate():
    """Signed by itself, for the loopback address."""
    key, pem = os.path.join(WORK, "tls.key"), os.path.join(WORK, "tls.crt")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem],
        check=True, capture_output=True)
    return key, pem


def started(key, pem):
    """A server of our own, and its address."""
    process = subprocess.Popen(
        [os.environ["SIDECAR"], "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
         "--tls-certificate", pem, "--tls-key", key, "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY],
        stdout=subprocess.PIPE, stderr=open(os.path.join(WORK, "log"), "w"), text=True)
    try:
        return process, address_of(process)
    except BaseException:
        end(process)
        raise


def address_of(process):
    lines = queue.Queue()

    def tell():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=tell, daemon=True).start()
    # Whatever else it says, it has one deadline.
    deadline = time.monotonic() + START_SECONDS
    while True:
        line = lines.get(timeout=max(0, deadline - time.monotonic()))
        if line is None:
            raise RuntimeError("the server ended before it was ready")
        if line.startswith("ready "):
            return line.split()[1]


def end(process):
    """Asked first, then killed: it never outlives us."""
    process.terminate()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@scenario
def uploads_come_in_chunks_without_a_length(s3, sent):
    body = pattern(3_000_000, 7)
    for contents in (body, io.BytesIO(body), b""):
        s3.put_object(Bucket="encrypted", Key="whole", Body=contents)
    assert "Content-Length" not in sent[-2] and sent[-2]["Transfer-Encoding"] == b"chunked", sent[-2]
    s3.put_object(Bucket="encrypted", Key="whole", Body=io.BytesIO(body))
    assert s3.get_object(Bucket="encrypted", Key="whole")["Body"].read() == body


@scenario
def parts_come_in_chunks_without_a_length(s3, sent):
    bodies = [pattern(PART, 8), pattern(9, 9)]
    upload = s3.create_multipart_upload(Bucket="encrypted", Key="parts")["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket="encrypted", Key="parts", UploadId=upload, PartNumber=number,
                              Body=io.BytesIO(body))
        assert "Content-Length" not in sent[-1], sent[-1]
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    s3.complete_multipart_upload(Bucket="encrypted", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="encrypted", Key="parts")["Body"].read() == b"".join(bodies)


if __name__ == "__main__":
    key, pem = certificate()
    process, endpoint = started(key, pem)
    try:
        client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=ACCESS_KEY,
                              aws_secret_access_key=SECRET_KEY, verify=pem, config=Config(retries={"max_attempts": 0}))
        headers = []
        client.meta.events.register("before-send.s3.*", lambda request, **_: headers.append(dict(request.headers)))
        client.create_bucket(Bucket="encrypted")
        run("encrypted", client, headers)
    finally:
        end(process)
