"""The EFI system partition, written without a mount and always the same.

mkfs.vfat and mtools write the current time into directory entries, so they run under faketime; names are
written in sorted order. ``mkfs.vfat --invariant`` would replace the volume id that /etc/fstab refers to, so
it isn't used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from builder.disk.contents import EspFile
from builder.disk.layout import MIB, Partition
from builder.errors import HallmarkError
from builder.image.sparse import copy_data
from builder.run import run

__all__ = ["LABEL", "make"]

LABEL = "EFI-SYSTEM"
#: FAT's calendar begins in 1980.
_FAT_EPOCH = 315_532_800
#: FAT32 needs 65525 clusters; at 512 bytes each that is 32 MiB.
_FAT32_MINIMUM = 34 * MIB


def make(
    handle: int,
    partition: Partition,
    files: Sequence[EspFile],
    *,
    serial: str,
    timestamp: int,
    work: Path,
    log: Path,
) -> None:
    """Make the filesystem in ``work`` and copy it into the open disk ``handle``.

    :param serial: the volume id as ``XXXX-XXXX``.
    :param timestamp: seconds since 1970; the time of every entry.
    :param work: a directory for temporary files.
    :raises HallmarkError: a name that FAT can't hold as it is, or names that differ in case only.
    """
    _check_names(files)
    image = work / "esp.img"
    with image.open("wb") as stream:
        stream.truncate(partition.size)
    moment = datetime.fromtimestamp(max(timestamp, _FAT_EPOCH), UTC)
    frozen = ("faketime", "-f", f"{moment:%Y-%m-%d %H:%M:%S}")
    env = {"TZ": "UTC", "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": "/dev/null"}
    kind = "32" if partition.size >= _FAT32_MINIMUM else "16"
    hidden = str(partition.first_lba)
    options = ("-F", kind, "-S", "512", "-h", hidden, "-i", serial.replace("-", ""), "-n", LABEL)
    run((*frozen, "mkfs.vfat", *options, image), env=env, log_file=log)
    tree = work / "esp"
    directories: dict[str, list[Path]] = {}
    for item in files:
        parent = PurePosixPath(item.path).parent
        for directory in [*reversed(parent.parents), parent]:
            directories.setdefault(str(directory), [])
        source = tree / item.path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(item.data)
        directories[str(parent)].append(source)
    names = sorted(name for name in directories if name != ".")
    if names:
        run((*frozen, "mmd", "-i", image, *(f"::/{name}" for name in names)), env=env, log_file=log)
    for name, sources in sorted(directories.items()):
        if sources:
            target = "::/" if name == "." else f"::/{name}/"
            run((*frozen, "mcopy", "-i", image, *sorted(sources), target), env=env, log_file=log)
    copy_data(image, handle, offset=partition.start)
    image.unlink()


def _check_names(files: Sequence[EspFile]) -> None:
    seen: dict[str, str] = {}
    for item in files:
        if not item.path.isascii() or set(item.path) & set('"*:<>?\\|') or item.path != item.path.strip():
            raise HallmarkError(
                f"the EFI system partition cannot hold a file named {item.path!r}",
                why='names there are kept to ASCII without " * : < > ? \\ |',
                hint="rename the file below /boot/efi",
            )
        other = seen.setdefault(item.path.lower(), item.path)
        if other != item.path:
            raise HallmarkError(
                f"the names {other!r} and {item.path!r} are one name on the EFI system partition",
                why="FAT doesn't tell upper from lower case",
            )
