"""What a build log means, from texts that dnf and our hooks really print."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from builder.recipe.model import Plan
from builder.rootfs import explain
from builder.rootfs.repositories import TrustedRepository

STAMP = "2026-11-22 16:10:02.784 | "


@pytest.mark.parametrize(
    ("log", "what", "where"),
    [
        (
            "No match for argument: kernel\nError: Unable to find a match: kernel",
            "no repository has the package kernel",
            "layers/el.yaml:12",
        ),
        (
            "No match for argument: kernel\nNo match for argument: other\nError: Unable to find a match",
            "no repository has the packages kernel, other",
            "layers/el.yaml:12",
        ),
        (
            "Error: Module or Group 'core' is not available.",
            "no repository has the package core",
            "tiny.yaml:9",
        ),
        (
            "All matches were filtered out by exclude filtering for argument: kernel\nError: no match",
            "the package 'kernel' is both asked for and excluded",
            "layers/el.yaml:12",
        ),
        (
            "Errors during downloading metadata for repository 'tiny':\n"
            "  - Curl error (7): Couldn't connect to server for http://127.0.0.1:9/repodata/repomd.xml []\n"
            "Error: Failed to download metadata for repo 'tiny': Cannot download repomd.xml",
            "the repository 'tiny' does not answer",
            "tiny.yaml:3",
        ),
        (
            "  - Status code: 403 for https://cdn.invalid/repodata/repomd.xml (IP: 192.0.2.1)\n"
            "Error: Failed to download metadata for repo 'tiny': Cannot download repomd.xml",
            "the repository 'tiny' refuses a client without a certificate",
            "tiny.yaml:3",
        ),
        (
            "  - Curl error (55): Failed sending data to the peer for https://cdn.invalid/repomd.xml []\n"
            "Error: Failed to download metadata for repo 'tiny': Cannot download repomd.xml",
            "the repository 'tiny' refuses a client without a certificate",
            "tiny.yaml:3",
        ),
        (
            "Package tiny-1.0-1.noarch.rpm is not signed\nError: GPG check FAILED",
            "a package is damaged or not signed by the pinned key",
            "tiny.yaml:3",
        ),
        (
            "Error: \n Problem: conflicting requests\n"
            "  - nothing provides firmware needed by kernel-5.14-1.x86_64",
            "the packages do not fit together",
            "layers/el.yaml:12",
        ),
        (
            "Error: Transaction test error:\n"
            "  file /etc/x conflicts between attempted installs of kernel-5.14-1.x86_64 and other-1-1.noarch",
            "the packages do not fit together",
            "layers/el.yaml:12",
        ),
        (
            "hallmark-error: no kernel is installed: the image could not boot (add the package kernel)",
            "no kernel is installed: the image could not boot (add the package kernel)",
            "recipe tiny-9",
        ),
        ("cp: error writing 'x': No space left on device", "the disk is full", None),
        ("something odd\nand odder", "diskimage-builder failed", None),
    ],
)
def test_causes(plan: Plan, trusted: TrustedRepository, log: str, what: str, where: str | None) -> None:
    text = "\n".join(STAMP + line for line in log.splitlines())
    error = explain.failure(text, plan, (trusted,))
    assert error.what == what
    assert error.where == where
    assert error.hint


def test_an_unknown_cause_shows_the_end_of_the_log(plan: Plan, trusted: TrustedRepository) -> None:
    log = Path("/build/log/rootfs.log")
    error = explain.failure(f"{STAMP}first\n{STAMP}last", plan, (trusted,), log_file=log)
    assert error.details == ("first", "last")
    assert error.where == log


def test_failed_package_scripts_of_the_image_are_told() -> None:
    first = "warning: %transfiletriggerin(glibc-2.36-9.x86_64) scriptlet failed, exit status 127\n"
    second = "warning: %post(bash-5.2-1.x86_64) scriptlet failed, exit status 1\n"
    assert explain.scriptlet_failures(first + second) == [first.strip(), second.strip()]
    two_stages = f"{first}2026-11-22 19:35:42.071 | hallmark-step: stage two: installing\n{second}"
    assert explain.scriptlet_failures(two_stages) == [second.strip()]


def test_the_log_is_named(plan: Plan, trusted: TrustedRepository) -> None:
    log = Path("/build/log/rootfs.log")
    error = explain.failure("No match for argument: kernel", plan, (trusted,), log_file=log)
    assert f"log: {log}" in error.details


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "cannot write the root filesystem: Read-only file system"),
    ],
)
def test_file_errors(number: int, what: str) -> None:
    error = OSError(number, "No space left on device" if number == errno.ENOSPC else "Read-only file system")
    assert explain.os_error(error, Path("/build")).what == what
