"""Readers of guest files, each with good and bad samples."""

# ruff: noqa: E501 - samples of guest files, one a line
from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest
import zstandard

from builder.errors import HallmarkError
from certification.parse import binaries, boot, cloudinit, initramfs, selinux, sshd, superblock, text, units


def member(name: str, data: bytes = b"", mode: int = 0o100644) -> bytes:
    """One file of a newc cpio archive (cpio(5))."""
    raw = name.encode() + b"\0"
    fields = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
    header = b"070701" + b"".join(f"{value:08x}".encode() for value in fields) + raw
    header += bytes(-len(header) % 4)
    return header + data + bytes(-len(data) % 4)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + member("TRAILER!!!")


MAIN = archive(
    member("usr/lib/modules/6.1.0-1/kernel/drivers/hv/hv_vmbus.ko", b"x"),
    member("usr/lib/modules/6.1.0-1/kernel/drivers/net/hyperv/hv_netvsc.ko.xz", b"x"),
    member("usr/lib/modules/6.1.0-1/kernel/drivers/hid/hid-hyperv.ko.zst", b"x"),
    member("etc/cmdline.d/90.conf", b"root=UUID=1"),
    member("init", b"usr/lib/systemd/systemd", 0o120777),
)
EARLY = archive(member("kernel/x86/microcode/AuthenticAMD.bin", b"microcode")) + bytes(700)


@pytest.mark.parametrize(
    "packed",
    [
        MAIN,
        gzip.compress(MAIN),
        lzma.compress(MAIN),
        zstandard.ZstdCompressor().compress(MAIN),
        EARLY + zstandard.ZstdCompressor().compress(MAIN) + bytes(100),
    ],
    ids=["plain", "gzip", "xz", "zstd", "early-then-zstd"],
)
def test_initramfs_of_every_packing(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "initramfs.img").write_bytes(packed)
    found = initramfs.read(tmp_path / "initramfs.img")
    assert found.modules() == {"6.1.0-1": {"hv_vmbus", "hv_netvsc", "hid_hyperv"}}
    assert found.small["etc/cmdline.d/90.conf"] == b"root=UUID=1"
    assert found.links["init"] == "usr/lib/systemd/systemd"
    assert found.segments == (2 if packed.startswith(EARLY) else 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (bytes(4096), "empty"),
        (b"no archive at all", "no known archive"),
        (MAIN[:200], "cut off"),
        (zstandard.ZstdCompressor().compress(MAIN)[:-9], "cut off"),
        (gzip.compress(MAIN)[:-9], "cut off"),
        (lzma.compress(MAIN)[:-9], "cut off"),
        (gzip.compress(b"text, no archive"), "no cpio archive"),
        (EARLY + b"\x28\xb5\x2f\xfdgarbage", "unpacked"),
    ],
    # Compressed bytes hold the time, and names with them would differ from process to process.
    ids=["nothing", "zeros", "text", "cut", "cut zstd", "cut gzip", "cut xz", "packed text", "garbage"],
)
def test_broken_initramfs_is_an_error_and_never_empty(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "initramfs.img").write_bytes(data)
    with pytest.raises(HallmarkError, match=message):
        initramfs.read(tmp_path / "initramfs.img")


def config(files: dict[str, str]) -> sshd.SshdConfig:
    def glob(pattern: str) -> list[str]:
        return [name for name in files if Path(name).match(pattern)]

    return sshd.effective(files.get, glob)


def test_sshd_takes_the_first_value_and_reads_includes_in_place() -> None:
    found = config(
        {
            "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nClientAliveInterval 0\nPort 22\nPort 2222\n",
            "/etc/ssh/sshd_config.d/50-redhat.conf": "clientaliveinterval 300\n",
            "/etc/ssh/sshd_config.d/10-azure.conf": "ClientAliveInterval=180 # balancer\nChallengeResponseAuthentication no",
        }
    )
    assert found.get("clientaliveinterval") == "180"
    assert found.origin("clientaliveinterval") == "/etc/ssh/sshd_config.d/10-azure.conf:1"
    assert found.get("kbdinteractiveauthentication") == "no"
    assert found.ports == ("22", "2222")
    assert found.get("permitrootlogin") == "prohibit-password"


def test_sshd_keeps_match_blocks_apart() -> None:
    found = config(
        {
            "/etc/ssh/sshd_config": "Match User build\n PasswordAuthentication yes\nMatch all\nPasswordAuthentication no\n"
        }
    )
    assert found.get("passwordauthentication") == "no"
    assert found.matched == (("passwordauthentication", "yes", "/etc/ssh/sshd_config"),)


def test_sshd_without_a_file_or_with_a_circle() -> None:
    with pytest.raises(ValueError, match="doesn't exist"):
        config({})
    with pytest.raises(ValueError, match="too deep"):
        config({"/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config"})


def test_cloud_config_merges_in_order() -> None:
    found = cloudinit.merge(
        [
            (
                "cloud.cfg",
                "datasource_list: [NoCloud, Azure]\ndatasource: {Azure: {a: 1}}\ncloud_init_modules:\n - growpart\n",
            ),
            ("91.cfg", "datasource_list: [ Azure ]\ndatasource: {Azure: {apply_network_config: false}}\n"),
        ]
    )
    assert found.get("datasource_list") == ["Azure"]
    assert found.get("datasource", "Azure") == {"a": 1, "apply_network_config": False}
    assert found.get("datasource", "Azure", "b") is None
    assert not found.problems


def test_cloud_config_names_what_it_cannot_read() -> None:
    found = cloudinit.merge([("a.cfg", "x: ["), ("b.cfg", "- a list"), ("c.cfg", ""), ("d.cfg", "y: 1")])
    assert [problem.split(":")[0] for problem in found.problems] == ["a.cfg", "b.cfg"]
    assert found.get("y") == 1
    assert cloudinit.module_names(["growpart", ["disk-setup", "always"], 3]) == [
        "growpart",
        "disk_setup",
        "3",
    ]


def test_loader_entry_with_grub_variables() -> None:
    found = boot.bls(
        "title EL\nlinux /vmlinuz-1\ninitrd /initramfs-1.img $tuned_initrd\noptions root=UUID=1 $kernelopts\n",
        origin="x.conf",
        variables={"kernelopts": 'ro console=ttyS0 x="a b"'},
    )
    assert found.arguments == ("root=UUID=1", "ro", "console=ttyS0", 'x="a b"')
    assert found.initrds == ("/initramfs-1.img",)
    assert boot.has_argument(found.arguments, "console=ttyS0")
    assert boot.has_argument(found.arguments, "root")
    assert not boot.has_argument(found.arguments, "console=tty1")
    assert not boot.has_argument(found.arguments, "quiet")


def test_static_grub_entries() -> None:
    found = boot.grub_cfg(
        'set kernelopts="ro quiet"\n'
        "menuentry 'One' --id x {\n  linux /vmlinuz-1 root=UUID=1 ${kernelopts}\n  initrd /i-1.img\n}\n"
        'menuentry "Two" {\n linuxefi /vmlinuz-2\n}\nmenuentry "Setup" {\n fwsetup\n}\n',
        origin="grub.cfg",
    )
    assert [(entry.title, entry.arguments) for entry in found] == [
        ("One", ("root=UUID=1", "ro", "quiet")),
        ("Two", ()),
    ]


@pytest.mark.parametrize(
    ("line", "disabled"),
    [
        ("blacklist hv-storvsc", {"hv_storvsc"}),
        ("install udf /bin/true", {"udf"}),
        ("install udf /sbin/modprobe --ignore-install udf", set()),
        ("# blacklist vfat", set()),
        ("options nvme_core io_timeout=240", set()),
    ],
)
def test_modprobe(line: str, disabled: set[str]) -> None:
    assert text.modprobe_disabled(line) == disabled


def test_accounts_and_tables() -> None:
    assert text.passwd("root:x:0:0:root:/root:/bin/bash\n")[0].uid == 0
    with pytest.raises(ValueError, match="5 fields"):
        text.passwd("root:x:0:0:root")
    assert text.shadow("root:!locked::0\nx::\ny") == {"root": "!locked", "x": "", "y": ""}
    assert (
        text.fstab("UUID=1 / ext4\n# c\nLABEL=a\\040b /mnt xfs defaults,nofail 0 0")[1].source == "LABEL=a b"
    )
    assert text.key_values("ResourceDisk.Format=n   # never\n#A=1\nA = 2\n") == {
        "ResourceDisk.Format": "n",
        "A": "2",
    }
    assert text.assignments("GRUB_X=\"a b\"\nexport LANG='C'\n") == {"GRUB_X": "a b", "LANG": "C"}
    assert text.ini("[a]\nBase = 1\nempty\n")["a"] == {"Base": "1", "empty": ""}
    with pytest.raises(ValueError, match="no section"):
        text.ini("gpgcheck=0")


def tree(files: dict[str, str | None], links: dict[str, str]) -> units.Unit:
    """A unit of a made-up tree: ``files`` by path with content, ``links`` with their targets."""

    def glob(pattern: str) -> list[str]:
        return sorted(
            name
            for name in {**files, **links}
            if Path(name).match(pattern) and name.count("/") == pattern.count("/")
        )

    def link(path: str) -> str | None:
        return links.get(path, "" if path in files else None)

    return units.look_up("a.service", glob=glob, link=link, read=files.get)


VENDOR = "/usr/lib/systemd/system/a.service"
INSTALLABLE = {VENDOR: "[Install]\nWantedBy=multi-user.target\n"}


@pytest.mark.parametrize(
    ("files", "links", "state", "starts"),
    [
        ({}, {}, "missing", False),
        (INSTALLABLE, {}, "disabled", False),
        (INSTALLABLE, {"/etc/systemd/system/multi-user.target.wants/a.service": VENDOR}, "enabled", True),
        (INSTALLABLE, {"/etc/systemd/system/b.service": VENDOR}, "enabled", True),
        (INSTALLABLE, {"/etc/systemd/system/a.service": "/dev/null"}, "masked", False),
        (
            INSTALLABLE,
            {"/usr/lib/systemd/system/sysinit.target.wants/a.service": "../a.service"},
            "static",
            True,
        ),
        ({VENDOR: "[Unit]\n"}, {}, "static", False),
        ({**INSTALLABLE, "/etc/systemd/system/a.service": ""}, {}, "masked", False),
        ({}, {"/etc/systemd/system/multi-user.target.wants/a.service": VENDOR}, "missing", False),
    ],
)
def test_units(files: dict[str, str | None], links: dict[str, str], state: str, starts: bool) -> None:
    found = tree(files, links)
    assert (found.state, found.starts) == (state, starts)


def test_labels() -> None:
    rules = selinux.FileContexts(
        [
            "/.*  system_u:object_r:default_t:s0\n/usr/.*  system_u:object_r:usr_t:s0\n"
            "/usr/(.*/)?lib(/.*)?  system_u:object_r:lib_t:s0\n/usr/lib/dotnet/.*\\.so -- system_u:object_r:textrel_t:s0\n"
            "/etc(/.*)?  system_u:object_r:etc_t:s0\n/etc/shadow.* -- system_u:object_r:shadow_t:s0\n"
            "/etc/localtime -l system_u:object_r:locale_t:s0\n/tmp/.* <<none>>\n"
        ],
        substitutions=["/lib64 /usr/lib\n"],
    )
    assert rules.expected("/etc", "d") == "system_u:object_r:etc_t:s0"
    assert rules.expected("/etc/shadow-", "f") == "system_u:object_r:shadow_t:s0"
    assert rules.expected("/etc/shadow-", "d") == "system_u:object_r:etc_t:s0"
    assert rules.expected("/etc/localtime", "l") == "system_u:object_r:locale_t:s0"
    assert rules.expected("/lib64/dotnet/a.so", "f") == "system_u:object_r:textrel_t:s0"
    assert rules.expected("/usr/lib/x", "f") == "system_u:object_r:lib_t:s0"
    assert rules.expected("/usr/share/x", "f") == "system_u:object_r:usr_t:s0"
    assert rules.expected("/tmp/x", "f") is None
    labels = {
        "/etc/shadow": ("f", "system_u:object_r:etc_t:s0"),
        "/etc/x": ("f", "u:r:etc_t:s0"),
        "/tmp/x": ("f", "u:r:z_t:s0"),
    }
    assert [path for path, _label, _wanted in rules.mismatches(labels)] == ["/etc/shadow"]
    assert rules.mismatches(labels, customizable=frozenset({"etc_t"})) == []
    with pytest.raises(ValueError, match="no labelling rule"):
        selinux.FileContexts(["/etc\n"])


def probe(data: bytes) -> superblock.Filesystem | None:
    return superblock.probe(lambda offset, length: data[offset : offset + length])


def test_superblocks() -> None:
    ext = bytearray(8192)
    ext[1024 + 56 : 1024 + 58] = b"\x53\xef"
    struct.pack_into("<III", ext, 1024 + 4, 1000, 0, 600)
    struct.pack_into("<I", ext, 1024 + 24, 2)
    struct.pack_into("<H", ext, 1024 + 58, 1)
    struct.pack_into("<II", ext, 1024 + 92, 4, 0x40)
    ext[1024 + 104 : 1024 + 120] = bytes(range(16))
    found = probe(bytes(ext))
    assert found is not None
    assert (found.type, found.size, found.free, found.clean) == ("ext4", 4096000, 2457600, True)
    assert found.uuid == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    struct.pack_into("<I", ext, 1024 + 96, 0x44)  # the journal must be replayed
    dirty = probe(bytes(ext))
    assert dirty is not None
    assert not dirty.clean
    swap = bytes(4086) + b"SWAPSPACE2"
    found = probe(swap)
    assert found is not None
    assert found.type == "swap"
    xfs = b"XFSB" + struct.pack(">IQ", 4096, 2000) + bytes(16) + bytes(range(16)) + bytes(8192)
    found = probe(xfs)
    assert found is not None
    assert (found.type, found.size) == ("xfs", 8192000)
    assert probe(bytes(8192)) is None


def test_programs() -> None:
    shell = binaries.elf(Path("/bin/sh").resolve().read_bytes())
    assert shell is not None
    assert any(name.startswith("libc.so") for name in shell.needed)
    assert binaries.elf(b"#!/bin/sh") is None
    with pytest.raises(ValueError, match="cut off"):
        binaries.elf(Path("/bin/sh").resolve().read_bytes()[:64])
    assert binaries.pe_machine(b"MZ" + bytes(100)) is None
    with pytest.raises(ValueError, match="no EFI program"):
        binaries.pe_signers(b"#!/bin/sh")
    module = b"module" + b"S" * 20 + struct.pack(">8xI", 20) + b"~Module signature appended~\n"
    assert binaries.module_signature(module) == b"S" * 20
    assert binaries.module_signature(b"module") is None
    with pytest.raises(ValueError, match="damaged"):
        binaries.module_signature(struct.pack(">8xI", 99) + b"~Module signature appended~\n")
