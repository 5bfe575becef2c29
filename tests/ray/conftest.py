"""A local Ray cluster that serves the sample: `make test-ray` installs Ray and runs these tests."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

# Ray reads these when it is imported. A cluster of its own, that nobody else's token opens and that
# calls no one; the autoscaler hears of the queue every second instead of every ten.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

import ray
from ray import serve

from ferrum.builder.build import build
from ferrum.runtime.serve.ray import app

Deploy = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The .onnx of the sample."""
    output = tmp_path_factory.mktemp("sample") / "tinycode.onnx"
    build(sample, output)
    return output


def _print_logs(folder: str) -> None:
    """The end of what each of Serve's processes has logged, for whoever reads of a failure."""
    for log in sorted(Path(folder).glob("session_latest/logs/serve/*.log")):
        lines = log.read_text(errors="replace").splitlines()[-30:]
        print(f"--- {log.name}", *lines, sep="\n")


@pytest.fixture(scope="session")
def _cluster(request: pytest.FixtureRequest) -> Iterator[int]:
    """A Ray cluster of this machine alone; the port that it serves HTTP on."""
    folder = tempfile.mkdtemp(prefix="ray")  # pytest's own are too long for a socket's name
    # Bound, so that none of Ray's many connections gets the port, and shared with Serve's proxy.
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    ray.init(
        num_cpus=6,  # so many threads may be promised; they share the cores that there are
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()
        reserved.close()
        if request.session.testsfailed:
            _print_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def deploy(_cluster: int, exported: Path) -> Deploy:
    """Serves the sample under a name while a block runs; gives the URL."""

    @contextmanager
    def deploy(name: str, **arguments: object) -> Iterator[str]:
        usual = {"model": str(exported), "threads": 1, "spin": False, "kv_capacity": 4096}
        serve.run(app({**usual, **arguments}), name=name, route_prefix=f"/{name}")
        try:
            yield f"http://127.0.0.1:{_cluster}/{name}"
        finally:
            serve.delete(name)

    return deploy
