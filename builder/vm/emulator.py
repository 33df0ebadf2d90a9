"""The QEMU process of a guest, started afresh whenever the guest resets itself.

A reset ends QEMU (``-action reboot=shutdown``) and a new one goes on with the same disk and the same UEFI
variables, like a machine that was switched off and on. A reset inside one process is not an alternative:
emulated, QEMU then forgets its translated code page by page, and GRUB takes more than nine minutes under
UEFI.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from builder import run
from builder.vm import tpm
from builder.vm.monitor import EventLog

__all__ = ["Emulator", "emulator"]

_RESETS = frozenset({"guest-reset", "host-qmp-system-reset"})


class Emulator:
    """``process`` is the QEMU that runs now, or that ran last."""

    process: subprocess.Popen[bytes]

    def __init__(
        self, argv: Sequence[str], *, log_file: Path, events: Path, trusted: tpm.Tpm | None, stack: ExitStack
    ) -> None:
        self._argv = argv
        self._tpm = trusted
        self._log_file = log_file
        self._events = events
        self._stack = stack
        self._start()

    def _start(self) -> None:
        self._stack.close()
        self._events.unlink(missing_ok=True)
        if self._tpm is not None:
            self._stack.enter_context(tpm.running(self._tpm, log_file=self._log_file))
        self.process = self._stack.enter_context(run.spawn(self._argv, log_file=self._log_file, grace=5))
        self._log = EventLog(self._events, self.process)
        self._stack.callback(self._log.close)

    def alive(self) -> bool:
        """Whether the guest goes on: QEMU runs, or ended for a reset and was started again."""
        if self.process.poll() is None:
            return True
        if self._log.end_reason() not in _RESETS:
            return False
        self._start()
        return True


@contextmanager
def emulator(
    argv: Sequence[str], *, log_file: Path, events: Path, trusted: tpm.Tpm | None = None
) -> Iterator[Emulator]:
    """Run QEMU for the length of a ``with`` block.

    :param argv: QEMU's arguments, as ``builder.vm.qemu.arguments`` gives them.
    :param log_file: takes QEMU's own messages.
    :param events: the socket of its second monitor.
    :param trusted: the TPM of the machine, if it has one.
    """
    with ExitStack() as stack:
        yield Emulator(argv, log_file=log_file, events=events, trusted=trusted, stack=stack)
