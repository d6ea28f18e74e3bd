"""Object storage for tests: a folder, and S3 by moto's server, in this process."""

from contextlib import contextmanager
from urllib.request import Request, urlopen

NAMES = {"access_key_id": "tests", "secret_access_key": "s3cret-of-tests", "region": "us-east-1"}


class S3:
    """moto's server.

    Attributes:
        options: For `storage_options`.
    """

    def __init__(self, address):
        self.address = address
        self.options = {"endpoint": address, **NAMES}
        self._buckets = 0

    def bucket(self):
        """Make a bucket and return its name."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        with urlopen(Request(f"{self.address}/{name}", method="PUT")):
            return name

    def unfinished_uploads(self, bucket):
        with urlopen(f"{self.address}/{bucket}?uploads") as answer:
            return answer.read().count(b"<UploadId>")


@contextmanager
def s3_server():
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
