"""Child processes that end with their parent, even when the parent is killed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs between fork and the command: asks the kernel to kill it when its parent goes, then becomes
# it. A `preexec_fn` would do the same but is unsafe in a process with threads.
_SCRIPT = """\
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("the parent is already gone")
os.execv(command[0], command)
"""


def tethered(command: Sequence[str]) -> list[str]:
    """Return `command` so that it ends when the thread that starts it does.

    The kernel counts the starting thread as the parent: start it from one that stays.
    """
    return [sys.executable, "-I", "-S", "-c", _SCRIPT, str(os.getpid()), *command]
