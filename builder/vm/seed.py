"""What a guest is told at its first boot: who may log in, and the machine's name.

The same cloud-config reaches the guest in two ways, so that the image is booted exactly as it is built. An
image made for Azure asks Azure only (``datasource_list: [ Azure ]``; cloud-init's ds-identify then probes
nothing else), and gets it from the provisioning disc of ``builder.vm.azure``. Any other image finds a
NoCloud disk: a FAT filesystem with the label CIDATA (cloud-init documentation, "NoCloud").
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from builder import run

__all__ = ["Identity", "cloud_config", "new_identity", "write_nocloud"]

_SEED_KIB = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """A fresh ed25519 key for one guest: ``private`` key file (mode 0600) and the ``public`` line."""

    private: Path
    public: str


def new_identity(directory: Path) -> Identity:
    """Make a key pair that exists for one guest only, in ``directory``."""
    key = Ed25519PrivateKey.generate()
    path = directory / "id_ed25519"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Identity(path, f"{public} hallmark-{secrets.token_hex(4)}")


def cloud_config(*, user: str, public_key: str, hostname: str, emulated: bool) -> str:
    """The ``#cloud-config`` user data.

    :param emulated: the guest has no hardware to run on. It makes an ed25519 host key only, as an RSA key
        takes 20 to 30 s; its watchdog waits for minutes, because on a busy host the guest's processor stands
        still for longer than the usual 20 s, and that is no fault of the image.
    """
    config: dict[str, object] = {
        "hostname": hostname,
        "users": [
            {
                "name": user,
                "gecos": "Hallmark test user",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [public_key],
            }
        ],
        "ssh_pwauth": False,
    }
    if emulated:
        config["ssh_genkeytypes"] = ["ed25519"]
        config["bootcmd"] = ["echo 60 >/proc/sys/kernel/watchdog_thresh || :"]  # twice that is a soft lockup
    # JSON is YAML; it needs no quoting rules.
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def write_nocloud(path: Path, *, user_data: str, instance_id: str, hostname: str) -> None:
    """Write the NoCloud disk: FAT, label CIDATA, files ``meta-data`` and ``user-data``.

    :raises HallmarkError: mkfs.vfat or mcopy is missing or fails.
    """
    path.unlink(missing_ok=True)
    run.run(["mkfs.vfat", "-C", "-n", "CIDATA", path, str(_SEED_KIB)], timeout=30)
    meta_data = json.dumps({"instance-id": instance_id, "local-hostname": hostname}) + "\n"
    for name, content in (("meta-data", meta_data), ("user-data", user_data)):
        run.run(["mcopy", "-i", path, "-", f"::{name}"], stdin=content, timeout=30)
