"""A server process whose limits a test shortens: the first argument is JSON of `Limits`, the second the data folder.

With LOG_ALL in the environment, every library writes all it has to say into the file that it names.
"""

import json
import logging
import os
import sys

from cdpbridge.server import Settings, log_to_stderr, serve
from cdpbridge.server.limits import Limits

limits, data_dir = json.loads(sys.argv[1]), sys.argv[2]
if "LOG_ALL" in os.environ:
    logging.basicConfig(level=logging.DEBUG, filename=os.environ["LOG_ALL"])
log_to_stderr()
if "LOG_ALL" in os.environ:
    for name in ("aiosqlite", "asyncio", "httpcore", "httpx", "sqlalchemy", "uvicorn", "websockets"):
        logging.getLogger(name).setLevel(logging.DEBUG)
serve(Settings.load(port=0, data_dir=data_dir), limits=Limits(**limits))
