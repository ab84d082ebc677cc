"""s3:// against an S3 server on the loopback."""

import pytest
from container_files import CONTAINERS

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

pytestmark = pytest.mark.filterwarnings("ignore")  # of botocore and werkzeug about themselves
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)


@pytest.fixture(scope="module")
def endpoint():
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    yield client
    for entry in client.list_objects_v2(Bucket="models").get("Contents", []):
        client.delete_object(Bucket="models", Key=entry["Key"])


@pytest.mark.parametrize("kind", ["safetensors", "torch zip", "npz", "flax msgpack", "sharded", "torch distributed"])
def test_containers_in_a_bucket(tmp_path, bucket, kind):
    path = CONTAINERS[kind](tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            bucket.upload_file(str(file), "models", f"run/{file.relative_to(tmp_path).as_posix()}")
    local = analyze(path, OPTIONS)
    remote = analyze(f"s3://models/run/{path.relative_to(tmp_path).as_posix()}", OPTIONS)
    assert [layer.statistics for layer in remote.layers] == [layer.statistics for layer in local.layers]
    assert remote.transfer is not None
    assert remote.transfer.bytes < 200_000


def test_a_folder_and_what_is_not_there(tmp_path, bucket):
    path = CONTAINERS["safetensors"](tmp_path)
    bucket.upload_file(str(path), "models", "run/model.safetensors")
    bucket.put_object(Bucket="models", Key="run/pytorch_model.bin", Body=b"never opened")
    assert analyze("s3://models/run", OPTIONS).container == "safetensors"
    with pytest.raises(CheckpointError, match=r"^s3://models/other: no such file"):
        analyze("s3://models/other", OPTIONS)


def test_an_object_that_changes(tmp_path, bucket, monkeypatch):
    from ssmspec.checkpoint.remote.object_store import ObjectStore

    path = CONTAINERS["safetensors"](tmp_path)
    bucket.upload_file(str(path), "models", "model.safetensors")
    get = ObjectStore._ask
    count = 0

    def replaced(store: ObjectStore, key: str) -> object:
        nonlocal count
        count += 1
        if count == 3:
            bucket.put_object(Bucket="models", Key="model.safetensors", Body=b"x" + path.read_bytes()[1:])
        return get(store, key)

    monkeypatch.setattr(ObjectStore, "_ask", replaced)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        analyze("s3://models/model.safetensors", OPTIONS)
