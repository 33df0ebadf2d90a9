""".NET, third part: what programs on a booted guest get from the system."""

from __future__ import annotations

import base64
import secrets
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from certification import testkit
from certification.checks import not_applicable, requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

CORE = "Microsoft.NETCore.App"


def _versions(guest: Guest) -> list[str]:
    """The versions of the base runtime, newest last."""
    result = guest.host.run("command -v dotnet >/dev/null && dotnet --list-runtimes", once=True)
    rows = [line.split() for line in result.stdout.splitlines()]
    found = [row[1] for row in rows if row and row[0] == CORE]
    if not found and not guest.host.run("rpm -qa 'dotnet*'").stdout.strip():
        not_applicable("no .NET runtime is installed")
    return found


def _compile() -> bytes:
    with tempfile.TemporaryDirectory(prefix="hallmark-testkit-") as work:
        return testkit.build(Path(work), source=testkit.FEATURES).assembly.read_bytes()


def _script(guest: Guest, version: str, *words: str, cultures: bool) -> str:
    """Put the program into the guest, run it in an ordinary user's login shell, and remove it."""
    files = {
        "Features.dll": guest.access.made("features", _compile),
        "Features.runtimeconfig.json": testkit.runtime_config(version=version, cultures=cultures).encode(),
    }
    if "crypto" in words:
        files["server.pfx"] = guest.access.made("key file", testkit.key_file)
    puts = "; ".join(
        f'echo {base64.b64encode(data).decode()} | base64 -d >"$d/{name}"' for name, data in files.items()
    )
    # A login shell has the settings that the image makes for everybody (profile.d).
    inner = shlex.quote(f"cd $1 && exec dotnet Features.dll {shlex.join(words)}")
    return (
        "d=$(mktemp -d /var/tmp/certification.XXXXXX) || exit 1; trap 'rm -rf \"$d\"' EXIT; "
        f'{puts}; chmod 755 "$d"; chmod 644 "$d"/*; '
        "setpriv --reuid=65534 --regid=65534 --clear-groups "
        f'env HOME=/nonexistent DOTNET_CLI_HOME="$d" sh -lc {inner} sh "$d"'
    )


def _run(guest: Guest, check: Checks, expected: dict[str, str], *words: str, cultures: bool = False) -> None:
    versions = _versions(guest)
    check.true(
        "runtimes to try", observed=bool(versions), expected=", ".join(versions) or "one", otherwise="none"
    )
    for version in versions:
        script = _script(guest, version, *words, cultures=cultures)
        output = guest.host.run(f"sh -c {shlex.quote(script)}")
        got = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
        said = f"{output.rc} {output.stderr.strip()[:400]}"
        check.record(f"status on {version}", expected="0", observed=said, ok=output.rc == 0)
        for key, value in expected.items():
            check.equal(f"{key} on {version}", expected=value, observed=got.get(key, "not printed"))


def _nonce(guest: Guest) -> str:
    return guest.access.made("nonce", lambda: f"certification-{secrets.token_hex(8)}".encode()).decode()


@requirement("dotnet.globalization")
def test_cultures(guest: Guest, check: Checks) -> None:
    _run(guest, check, testkit.FEATURES_EXPECTED["cultures"], "cultures", cultures=True)


@requirement("dotnet.tzdata")
def test_zones(guest: Guest, check: Checks) -> None:
    _run(guest, check, testkit.FEATURES_EXPECTED["zones"], "zones")


@requirement("dotnet.openssl")
def test_cryptography(guest: Guest, check: Checks) -> None:
    word = _nonce(guest)
    _run(guest, check, testkit.secrets_expected(word), "crypto", word)


@requirement("dotnet.selinux-clean", views=("booted",))
def test_no_denial(guest: Guest, check: Checks) -> None:
    versions = _versions(guest)
    check.equal("getenforce", expected="Enforcing", observed=guest.host.run("getenforce").stdout.strip())
    check.true(
        "runtimes to try", observed=bool(versions), expected=", ".join(versions) or "one", otherwise="none"
    )
    marker = _nonce(guest)
    guest.command("logger -t certification %s", marker)
    for version in versions[-1:]:
        script = _script(guest, version, "zones", cultures=False)
        run = f"systemd-run --quiet --pipe --wait --collect sh -c {shlex.quote(script)}"
        output = guest.host.run(run, login=True)
        check.contains(
            f"the program as a service on {version}", expected="summer=120", observed=output.stdout
        )
    log = guest.command(
        f"journalctl -b --no-pager -o short-monotonic | sed -n '/{marker}/,$p' | grep -c {marker}; "
        f"journalctl -b --no-pager -o cat | sed -n '/{marker}/,$p' | grep -E 'avc: +denied' || :"
    ).splitlines()
    check.at_least("the place in the journal", expected=1, observed=int(log[0]))
    check.empty("denials since then", observed=log[1:])
