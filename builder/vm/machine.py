"""Boot an image, wait until it can be logged in to, and end it again.

The image is never written. Every wait has a deadline, every failure carries the last lines of the serial
line, and QEMU dies with the process that started it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builder import log, run
from builder.errors import CommandFailed, HallmarkError
from builder.run import Completed
from builder.vm import azure, monitor, qemu, seed, ssh, tpm
from builder.vm.acceleration import Acceleration
from builder.vm.emulator import Emulator, emulator
from builder.vm.firmware import Firmware, prepare
from builder.vm.serial import SerialLog
from builder.workspace import owned_directory, sweep

__all__ = ["Machine", "boot", "start"]

_POLL = 0.5
_MIB = 1 << 20
_SCRATCH = "vm-"
_SOCKETS = "hallmark-vm-"
# A first boot may reset itself once (a relabel) and a test may ask for a few; a loop goes on for ever.
_MAX_RESETS = 4
_MAX_REFUSALS = 4


@dataclass(slots=True)
class Machine:
    """A running guest.

    ``host``, ``port``, ``user``, ``identity`` and ``ssh_config`` are what a client needs (any host name
    means this guest in ``ssh_config``); ``serial`` is the log of its serial line; ``boot_seconds`` the time
    from start to login; ``requests`` what the guest asked the Azure endpoints, one JSON object a line
    (absent when it asked nothing).
    """

    host: str
    port: int
    user: str
    identity: Path
    ssh_config: Path
    serial: Path
    firmware: Firmware
    requests: Path
    emulator: Emulator
    monitor: Path
    connection: ssh.Connection
    watch: SerialLog
    boot_seconds: float = 0.0
    _resets: int = field(default=0)
    _standstills: int = field(default=0)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The QEMU of this guest; another one after each restart."""
        return self.emulator.process

    def run(self, command: str | Sequence[str], *, timeout: float = 120, check: bool = False) -> Completed:
        """Run a command in the guest as ``user``; see ``builder.vm.ssh.Connection.run``."""
        return self.connection.run(command, timeout=timeout, check=check)

    def wait_for_ssh(self, *, deadline: float) -> None:
        """Wait until a login works; afterwards every command shares that connection.

        :param deadline: seconds from now.
        :raises HallmarkError: the guest failed in a way seen on its serial line, QEMU ended, or the time is
            over.
        """
        end = time.monotonic() + deadline
        greeted = False
        pause = _POLL
        refusals = 0
        while True:
            self._check_alive()
            left = end - time.monotonic()
            if left <= 0 or refusals >= _MAX_REFUSALS:
                raise self._too_late(deadline, greeted)
            greeted = ssh.has_banner(self.port, timeout=min(3.0, max(0.1, left)))
            if greeted:
                if self.connection.connect(timeout=min(90.0, left)):
                    return
                # Once cloud-init has done all that it will do, waiting makes no more users.
                refusals += self.watch.provisioned and ssh.was_refused(self.connection.log)
                # The server is up, the user is not yet made. Failed logins are held against us by newer
                # servers.
                pause = min(pause * 2, 8.0)
            time.sleep(min(pause, max(0.0, end - time.monotonic())))

    def settle(self, *, timeout: float = 300) -> Completed:
        """Wait until systemd has nothing left to start (cloud-init included); the state is in ``stdout``."""
        return self.run(["systemctl", "is-system-running", "--wait"], timeout=timeout)

    def reboot(self, *, deadline: float = 600, ask: bool = True) -> float:
        """Restart the guest by its own means and wait until it is another boot; returns the seconds it took.

        :param ask: False: it is about to restart by itself, and is only waited for.
        :raises HallmarkError: see ``wait_for_ssh``.
        """
        began = time.monotonic()
        before = self._boot_id()
        self._resets += 1
        try:
            if ask:
                self.run(["sudo", "systemctl", "--no-block", "reboot"], timeout=60)
        except CommandFailed as error:
            log.debug(f"the connection went down with the guest: {error.what}")
        self.connection.disconnect()
        while True:
            left = deadline - (time.monotonic() - began)
            self.wait_for_ssh(deadline=max(left, 0.1))
            try:
                after = self._boot_id()
            except CommandFailed:
                after = before  # the old system's last moments
            if after != before:
                return time.monotonic() - began
            self.connection.disconnect()
            time.sleep(_POLL)

    def shut_down(self, *, timeout: float = 120) -> bool:
        """Press the power button and wait for the guest to end; False if it did not in ``timeout``
        seconds."""
        self.connection.disconnect()
        if self.process.poll() is None:
            monitor.execute(self.monitor, "system_powerdown")
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _boot_id(self) -> str:
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"], timeout=60, check=True).stdout.strip()

    def _check_alive(self) -> None:
        failure = self.watch.poll()
        if failure is not None:
            details = self.watch.tail()
            raise HallmarkError(
                failure.what, where=self.serial, why=failure.line, hint=failure.hint, details=details
            )
        if not self.emulator.alive():
            raise self._ended()
        if self.watch.standstills > self._standstills:
            self._standstills = self.watch.standstills
            self._resets += 1
            log.warn("a timer or a processor of the emulator stands still: starting the guest again")
            monitor.execute(self.monitor, "system_reset")
        if self.watch.kernels > self._resets + _MAX_RESETS:
            raise HallmarkError(
                f"the guest started its kernel {self.watch.kernels} times without coming up",
                where=self.serial,
                hint="it resets itself early in the boot: the serial log shows where",
                details=self.watch.tail(),
            )

    def _ended(self) -> HallmarkError:
        output = self.serial.with_suffix(".qemu.log")
        lines = output.read_text(errors="replace").splitlines()[-10:] if output.exists() else []
        return HallmarkError(
            f"QEMU ended with status {self.process.returncode} before the guest could be logged in to",
            where=self.serial,
            hint="the guest powered itself off, or QEMU could not start: see the lines above",
            details=[*self.watch.tail(15), *lines],
        )

    def _too_late(self, deadline: float, greeted: bool) -> HallmarkError:
        if greeted:
            refusal = ssh.explain_refusal(self.connection.log)
            return HallmarkError(
                refusal.what,
                where=self.serial,
                why=refusal.why,
                hint=refusal.hint,
                details=[*self.watch.tail(20), *refusal.details],
            )
        seen = (
            "shows a login prompt but no ssh server"
            if self.watch.login_prompt
            else (
                "started its kernel but did not get to ssh"
                if self.watch.kernels
                else "never started a kernel"
            )
        )
        return HallmarkError(
            f"after {deadline:.0f} s the guest {seen}",
            where=self.serial,
            hint="on a slow or busy machine allow more time; otherwise the last lines show what it waits for",
            details=self.watch.tail(),
        )


@contextmanager
def boot(
    image: Path,
    *,
    firmware: Firmware,
    work: Path,
    logs: Path,
    acceleration: Acceleration,
    deadline: float = 600,
    memory_mib: int = 2048,
    cpus: int = 2,
    user: str = "cloud-user",
    hostname: str = "hallmark-test",
    disk_mib: int | None = None,
    shutdown: float = 120,
) -> Iterator[Machine]:
    """Boot ``image`` and yield the machine once it can be logged in to.

    An emulated processor may stand still for so long that the kernel takes that for a fault of its own. Such
    a boot says nothing about the image: another machine is made of it, once.

    :param work: directory for temporary files; holds the overlay with the guest's writes, deleted at the end.
    :param logs: directory that keeps ``serial-<firmware>.log`` and QEMU's own messages.
    :param deadline: seconds until the login must work.
    :param disk_mib: size of the disk that the guest sees; None: the image's own. It can only be larger.
    :param shutdown: seconds allowed for a clean end; 0 ends QEMU at once. After an exception it is ended at
        once.
    :raises HallmarkError: the guest does not come up, or does not go down cleanly in time.
    """
    for anew in (acceleration.kind == "tcg", False):
        with start(
            image,
            firmware=firmware,
            work=work,
            logs=logs,
            acceleration=acceleration,
            memory_mib=memory_mib,
            cpus=cpus,
            user=user,
            hostname=hostname,
            disk_mib=disk_mib,
        ) as machine:
            began = time.monotonic()
            machine.wait_for_ssh(deadline=deadline)
            machine.boot_seconds = time.monotonic() - began
            machine.watch.poll()
            if anew and machine.watch.stalled:
                log.warn(f"the emulator stood still; booting {image.name} anew ({machine.watch.stalled})")
                continue
            log.info(
                f"{image.name} is up after {machine.boot_seconds:.0f} s ({firmware}, {acceleration.kind})"
            )
            yield machine
            if shutdown > 0 and not machine.shut_down(timeout=shutdown):
                raise HallmarkError(
                    f"the guest did not power off within {shutdown:g} s of its power button",
                    where=machine.serial,
                    why="a machine in Azure is stopped in the same way and would be cut off",
                    hint="a service does not stop, or there is no systemd-logind: see the last lines",
                    details=SerialLog(machine.serial).tail(),
                )
            return


@contextmanager
def start(
    image: Path | None,
    *,
    firmware: Firmware,
    work: Path,
    logs: Path,
    acceleration: Acceleration,
    memory_mib: int = 2048,
    cpus: int = 2,
    user: str = "cloud-user",
    hostname: str = "hallmark-test",
    disk_mib: int | None = None,
    kernel: qemu.DirectKernel | None = None,
) -> Iterator[Machine]:
    """Start QEMU and yield the machine at once, before it has booted; ``boot`` is this and the wait.

    ``kernel`` starts a kernel of its own instead of the image's boot loader; then the image may be None.
    """
    for directory in (work, logs):
        directory.mkdir(parents=True, exist_ok=True)
    # A disk and a private key, which are worth nothing any more, of guests whose Hallmark was killed.
    sweep(work, _SCRATCH)
    sweep(Path(tempfile.gettempdir()), _SOCKETS)
    scratch = owned_directory(work, _SCRATCH)
    sockets = _socket_directory(scratch)
    try:
        machine_id = uuid.uuid4()
        identity = seed.new_identity(scratch)
        mac = "02:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(5))
        user_data = seed.cloud_config(
            user=user,
            public_key=identity.public,
            hostname=hostname,
            emulated=acceleration.kind == "tcg",
        )
        instance = azure.Instance(machine_id, hostname, user, identity.public, user_data, mac)
        disc, nocloud = scratch / "provisioning.iso", scratch / "cidata.img"
        description, requests = scratch / "metadata.json", logs / f"azure-{firmware}.jsonl"
        azure.write(instance, disc=disc, description=description)
        seed.write_nocloud(nocloud, user_data=user_data, instance_id=str(machine_id), hostname=hostname)
        serial = logs / f"serial-{firmware}.log"
        for old in (serial, serial.with_suffix(".qemu.log"), serial.with_suffix(".ssh.log"), requests):
            old.unlink(missing_ok=True)
        port = ssh.free_port()
        files = prepare(firmware, work=scratch)
        trusted = tpm.Tpm(scratch / "tpm", sockets / "tpm.sock") if files.tpm else None
        guest = qemu.Guest(
            name=f"hallmark-{firmware}",
            firmware=files,
            accelerator=acceleration.kind,
            memory_mib=memory_mib,
            cpus=cpus,
            serial=serial,
            monitor=sockets / "qmp",
            events=sockets / "events",
            ssh_port=port,
            mac=mac,
            uuid=str(machine_id),
            image=image.resolve() if image else None,
            image_format=qemu.disk_format(image) if image else "raw",
            overlay=_overlay(image, scratch, disk_mib) if image else None,
            seeds=(nocloud,),
            disc=disc,
            tpm=trusted.socket if trusted else None,
            chassis_asset_tag=azure.CHASSIS_ASSET_TAG,
            network=azure.USER_NETWORK,
            forwards=azure.forwards(description=description, requests=requests),
            kernel=kernel,
        )
        config = scratch / "ssh_config"
        ssh.write_config(config, port=port, user=user, identity=identity.private, sockets=sockets)
        connection = ssh.Connection(config, sockets / "ssh", serial.with_suffix(".ssh.log"))
        argv = qemu.arguments(guest, program=run.find_program("qemu-system-x86_64"))
        with (
            emulator(
                argv, log_file=serial.with_suffix(".qemu.log"), events=guest.events, trusted=trusted
            ) as running,
            connection.connected(),
        ):
            yield Machine(
                host="127.0.0.1",
                port=port,
                user=user,
                identity=identity.private,
                ssh_config=config,
                serial=serial,
                firmware=firmware,
                requests=requests,
                emulator=running,
                monitor=guest.monitor,
                connection=connection,
                watch=SerialLog(serial),
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)


def _socket_directory(scratch: Path) -> Path:
    """Where nobody else reaches: ``scratch`` itself, or a directory apart when that path is too long or odd.

    A socket's path has at most 107 bytes, and ssh appends 17 to the name while it makes one.
    """
    if len(os.fsencode(scratch)) <= 80 and re.fullmatch(r"[\w./-]+", str(scratch)):
        return scratch
    return owned_directory(Path(tempfile.gettempdir()), _SOCKETS)


def _overlay(image: Path, work: Path, disk_mib: int | None) -> Path:
    kind = qemu.disk_format(image)
    size = qemu.virtual_size(image, kind)
    if size is None:
        info = run.run(["qemu-img", "info", "-f", kind, "--output=json", image], timeout=60).stdout
        size = qemu.parse_virtual_size(info)
    if disk_mib is not None:
        if disk_mib * _MIB < size:
            raise HallmarkError(
                f"a disk of {disk_mib} MiB is smaller than the image ({size // _MIB} MiB)",
                where=image,
                hint="a test may only enlarge the disk",
            )
        size = disk_mib * _MIB
    overlay = work / "overlay.qcow2"
    run.run(["qemu-img", "create", "-q", "-f", "qcow2", overlay, str(size)], timeout=60)
    return overlay
