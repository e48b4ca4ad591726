"""A server of S3's protocol on this machine, which keeps objects in a folder and lets in whoever has its key."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PROGRAM = Path(sys.executable).parent / "rclone"
START_SECONDS = 20.0
ID, SECRET = "omniflo", "a-secret-of-s3"


class Server(NamedTuple):
    url: str
    folder: Path
    """A subfolder for each bucket."""

    def environment(self) -> dict[str, str]:
        """Return what boto3 finds it by."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder.parent / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", "s3", "--addr", address, "--auth-key", f"{ID},{SECRET}", "--config", os.devnull, folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.defpath, "HOME": str(folder.parent), "RCLONE_CACHE_DIR": str(folder.parent / "cache")},
        )
    try:
        give_up = time.monotonic() + START_SECONDS
        host, _, port = address.partition(":")
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    break
            assert process.poll() is None, (folder.parent / "s3.log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield Server(f"http://{address}", folder)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
