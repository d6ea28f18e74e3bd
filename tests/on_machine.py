"""Run a module on a machine of `tests/machines.py`: `on_machine.py NAMESPACE MODULE ARGUMENTS...`.

`tests/programs.py` forks it, so a program there begins as quickly as one of this machine.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def main() -> None:
    namespace, module, *arguments = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    with open(namespace) as opened:
        if libc.setns(opened.fileno(), _NEW_NETWORK) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    libc.prctl(_PARENT_DEATH, signal.SIGTERM)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
