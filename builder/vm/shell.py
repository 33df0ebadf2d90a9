"""A shell for a person in a booted image."""

from __future__ import annotations

from pathlib import Path

from builder import log, run
from builder.vm.acceleration import Acceleration
from builder.vm.firmware import Firmware
from builder.vm.machine import boot
from builder.vm.ssh import ALIAS
from builder.workspace import owned_directory, sweep

__all__ = ["interactive"]

_LOGS = "boot-"


def interactive(
    image: Path,
    *,
    firmware: Firmware,
    work: Path,
    acceleration: Acceleration,
    deadline: float = 600,
) -> int:
    """Boot ``image``, hand the terminal to a shell in it, and shut the guest down when the shell ends.

    The image is not changed: what the person does in the guest is gone afterwards. Its logs stay in a
    directory of its own below ``work``, until the next call after this process has ended.

    :returns: the shell's exit status.
    :raises HallmarkError: the guest does not come up.
    """
    sweep(work, _LOGS)
    logs = owned_directory(work, _LOGS)
    log.info(
        f"booting {image} ({firmware}, {acceleration.kind}); serial log: {logs / f'serial-{firmware}.log'}"
    )
    with boot(
        image, firmware=firmware, work=work, logs=logs, acceleration=acceleration, deadline=deadline
    ) as machine:
        log.info(f"another window: ssh -F {machine.ssh_config} {ALIAS}")
        log.info("the guest and all changes in it are gone when this shell ends")
        return run.attach(["ssh", "-F", machine.ssh_config, ALIAS])
