"""What the views make of bytes: partition tables, FAT, file listings, evidence. No appliance, no guest."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from certification.evidence import LIMIT, EvidenceLog, bounded, scrub
from certification.views.fat import Fat
from certification.views.format import ImageBytes
from certification.views.inventory import FIND_FORMAT, Inventory, parse_digests, parse_find, parse_xattrs

LAST = (24 << 20) // 512 - 1  # of the plain image: 4 MiB root, 20 MiB for the rest


@pytest.fixture
def copy(plain_image: Path, tmp_path: Path) -> Path:
    path = tmp_path / "image.vhd"
    path.write_bytes(plain_image.read_bytes())
    return path


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def test_a_good_disk(plain_image: Path) -> None:
    image = ImageBytes(plain_image)
    assert image.deviations == [] and image.footer.current_size == image.disk_size
    assert image.mbr.valid and image.mbr.protective and not image.mbr.has_boot_code
    gpt = image.gpt
    assert gpt is not None and gpt.problems == () and gpt.primary is not None and gpt.primary.intact
    assert gpt.backup is not None and gpt.backup.lba == LAST
    assert [(part.number, part.kind, part.offset) for part in image.partitions] == [
        (1, "bios-boot", 1 << 20),
        (2, "esp", 2 << 20),
        (3, "linux", 18 << 20),
    ]
    assert image.partitions[1].name == "EFI System"
    image.close()


@pytest.mark.parametrize(
    ("offset", "data", "problem"),
    [
        (512 + 16, bytes(4), "primary header's checksum"),
        (1024 + 60, b"\xff", "checksum of the primary partition entries"),
        (LAST * 512, bytes(512), "no backup GPT header"),
        (LAST * 512 + 24, b"\x07", "backup header's checksum"),
        (512, bytes(512), "no primary GPT header"),
    ],
)
def test_damage_to_the_partition_table_is_named(copy: Path, offset: int, data: bytes, problem: str) -> None:
    poke(copy, offset, data)
    gpt = ImageBytes(copy).gpt
    assert gpt is not None and any(problem in text for text in gpt.problems), gpt.problems
    assert len(gpt.partitions) == 3  # the other copy still says where they are


def test_a_grown_disk_has_its_backup_in_the_wrong_place(copy: Path) -> None:
    data = copy.read_bytes()
    copy.write_bytes(data[:-512] + bytes(1 << 20) + data[-512:])
    gpt = ImageBytes(copy).gpt
    assert gpt is not None
    assert any("expects the other copy at LBA" in text for text in gpt.problems)
    assert any("no backup GPT header" in text for text in gpt.problems)


def test_no_partition_table_and_too_short(copy: Path, tmp_path: Path) -> None:
    poke(copy, 512, bytes(512))
    poke(copy, LAST * 512, bytes(512))
    assert ImageBytes(copy).gpt is None and ImageBytes(copy).esp is None
    short = tmp_path / "short.vhd"
    short.write_bytes(bytes(4096))
    with pytest.raises(HallmarkError, match="too few"):
        ImageBytes(short)
    with pytest.raises(HallmarkError, match="cannot open"):
        ImageBytes(tmp_path / "none.vhd")


def test_the_esp(plain_image: Path, copy: Path) -> None:
    esp = ImageBytes(plain_image).esp
    assert esp is not None and esp.bits == 16 and esp.serial == "CAFE-F00D" and esp.label == "EFI"
    assert "/efi/boot/bootx64.efi" in esp.files
    loader = esp.read("/EFI/BOOT/BOOTX64.EFI")
    assert loader is not None and loader.startswith(b"MZ") and loader.endswith(b"end of loader")
    assert esp.read("/efi/a long directory name/GRUB.CFG") == loader
    assert esp.read("/EFI/BOOT") is None and esp.read("/nothing") is None
    poke(copy, (2 << 20) + 510, b"\0\0")
    with pytest.raises(HallmarkError, match="no FAT filesystem"):
        _ = ImageBytes(copy).esp


@pytest.mark.parametrize(("kind", "size", "bits"), [("12", 2, 12), ("16", 16, 16), ("32", 64, 32)])
def test_every_kind_of_fat(tmp_path: Path, kind: str, size: int, bits: int) -> None:
    path = tmp_path / "fat"
    with path.open("wb") as stream:
        stream.truncate(size << 20)
    content = bytes(range(256)) * 500
    source = tmp_path / "x"
    source.write_bytes(content)
    for argv in (
        ["mkfs.vfat", "-F", kind, "-i", "12345678", path],
        ["mmd", "-i", path, "::/one", "::/one/two"],
        ["mcopy", "-i", path, source, "::/one/two/A quite long name.with.dots"],
    ):
        subprocess.run(argv, check=True, capture_output=True)
    data = path.read_bytes()
    fat = Fat(lambda offset, length: data[offset : offset + length])
    assert (fat.bits, fat.serial) == (bits, "1234-5678")
    assert fat.read("/one/two/a quite long name.with.dots") == content


def listing(tmp_path: Path) -> Inventory:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_text("x")
    (tree / "usr/bin/tool").chmod(0o4755)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc").mkdir()
    (tree / "etc/up").symlink_to("../../../bin/tool")
    (tree / "etc/circle").symlink_to("circle")
    (tree / "etc/.hidden.conf").touch()
    (tree / "etc/odd\n\tname").touch()
    (tree / "etc/caf\udce9").touch()  # Latin-1, no valid UTF-8
    out = subprocess.run(["find", tree, "-printf", FIND_FORMAT], capture_output=True, check=True).stdout
    with pytest.raises(ValueError, match="cut off"):
        parse_find(out[:-9])
    return Inventory(parse_find(out, root=str(tree)))


def test_the_file_listing(tmp_path: Path) -> None:
    found = listing(tmp_path)
    tool = found.get("/bin/tool")
    assert tool is not None and tool.path == "/usr/bin/tool" and tool.mode == 0o4755
    assert found.resolve("/etc/up") == "/usr/bin/tool" and found.get("/etc/up", follow=False).type == "l"  # type: ignore[union-attr]
    assert found.get("/etc/circle") is None and found.get("/etc/circle", follow=False) is not None
    assert found.get("/nothing") is None and found.get("/") is not None
    assert "/etc/odd\n\tname" in found and "/etc/caf\udce9" in found
    assert found.glob("/*/tool") == ["/bin/tool"] and found.glob("/usr/*/t*l") == ["/usr/bin/tool"]
    assert found.glob("/etc/*.conf") == [] and found.glob("/etc/.*.conf") == ["/etc/.hidden.conf"]
    assert [entry.path for entry in found.children("/bin")] == ["/usr/bin/tool"]
    assert {entry.path for entry in found.below("/usr")} == {"/usr/bin", "/usr/bin/tool"}


def test_digests_and_attributes_are_parsed() -> None:
    digest = "0" * 64
    text = f"{digest}  /r/a\n\\{digest}  /r/new\\nline\\\\\n".encode()
    assert parse_digests(text, root="/r") == {"/a": digest, "/new\nline\\": digest}
    text = b"# file: /r/a\\012b\nsecurity.selinux=0x61620a\n\n# file: /r\nsecurity.capability=0x01\n"
    assert parse_xattrs(text, root="/r") == {
        "/a\nb": {"security.selinux": "61620a"},
        "/": {"security.capability": "01"},
    }


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "hidden", "kept"),
    [
        (f"before\n{KEY}\nafter", "abc", "after"),
        ("-----BEGIN RSA PRIVATE KEY-----\ncut off here", "cut off", ""),
        ("root:$6$salt$0123456789abcdef:1:2", "0123456789", "root:$6$***:1:2"),
        ("root:!$y$j9T$salt$0123456789:1", "0123456789", "root:!$y$***:1"),
        ("https://x.invalid/y?sv=1&sig=AbCdEf%3D&sp=r", "AbCdEf", "sp=r"),
        ("AccountName=a;AccountKey=Zm9vYmFy==;x=1", "Zm9vYmFy", "x=1"),
    ],
)
def test_secrets_do_not_reach_the_evidence(text: str, hidden: str, kept: str) -> None:
    clean = scrub(text)
    assert hidden not in clean and kept in clean


def test_evidence_is_bounded_and_tied_to_its_requirement(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    with EvidenceLog(path, view="disk") as log:
        log.fact("before", 1)
        with log.about("azure.one"):
            log.command("flood", status=3, stdout="x" * (LIMIT * 3), stderr=KEY, seconds=0.25)
            log.read("/etc/x", None)
            log.read("/etc/y", b"\0binary")
            log.read("/etc/z", b"text")
    session, flood, missing, binary, text = (json.loads(line) for line in path.read_text().splitlines())
    assert session["requirement"] == "(session)"
    assert flood["requirement"] == missing["requirement"] == "azure.one"
    assert flood["status"] == 3 and len(flood["stdout"]["text"]) < LIMIT + 100
    assert flood["stdout"]["length"] == LIMIT * 3 and len(flood["stdout"]["sha256"]) == 64
    assert "abc" not in flood["stderr"]["text"]
    assert missing["exists"] is False and "content" not in binary and text["content"] == "text"
    assert bounded("short") == {"text": "short"}
    assert io.StringIO(path.read_text()).read().count("\n") == 5
