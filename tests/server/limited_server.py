"""A server process whose limits a test shortens: the first argument is JSON of `Limits`, the others are settings."""

import json
import sys

from cdpbridge.server import Settings, log_to_stderr, serve
from cdpbridge.server.limits import Limits

limits, data_dir = json.loads(sys.argv[1]), sys.argv[2]
log_to_stderr()
serve(Settings.load(port=0, data_dir=data_dir), limits=Limits(**limits))
