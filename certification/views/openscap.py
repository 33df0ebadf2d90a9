"""A SCAP profile, judged by this machine's oscap in a copy of an unbooted image.

oscap judges a tree that isn't mounted anywhere (``OSCAP_PROBE_ROOT``, oscap(8)), with two traps. Its package
probe looks for the database where this machine's rpm has its own: then no platform matches, every rule is
"not applicable", and the exit status is 0. And most of its probes only put the tree's path in front of a
file's, so that an absolute link leads out of the tree, into this machine.
"""

from __future__ import annotations

import json
import os
import posixpath
from pathlib import Path
from xml.etree import ElementTree

from builder.errors import HallmarkError
from builder.run import run
from builder.workspace import digest_file
from certification.model import Model
from certification.views import rpmdb

__all__ = ["CONTENT", "Evaluation", "contain", "evaluate"]

#: Where ComplianceAsCode's data streams are: scap-security-guide, Debian's ssg-nondebian.
CONTENT = Path("/usr/share/xml/scap/ssg/content")
_SECONDS = 600
_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_RULE = "xccdf_org.ssgproject.content_rule_"
_PROFILE = "xccdf_org.ssgproject.content_profile_"
_OVAL = "http://oval.mitre.org/XMLSchema/oval-definitions-5"
_DEFINITION = "oval:hallmark:def:1"
# Results of rules that were judged, in whichever way (XCCDF 1.2, 6.6.4.2).
_JUDGED = ("pass", "fail", "error", "unknown", "fixed")
# The release package is installed: both that the database is read, and what the image is.
_PACKAGE = f"""\
<oval_definitions xmlns="{_OVAL}" xmlns:oval="http://oval.mitre.org/XMLSchema/oval-common-5">
  <generator><oval:schema_version>5.11</oval:schema_version>
    <oval:timestamp>2026-01-01T00:00:00</oval:timestamp></generator>
  <definitions>
    <definition class="inventory" id="{_DEFINITION}" version="1">
      <metadata><title>release package</title><description>it is installed</description></metadata>
      <criteria><criterion test_ref="oval:hallmark:tst:1"/></criteria>
    </definition>
  </definitions>
  <tests>
    <rpminfo_test xmlns="{_OVAL}#linux" id="oval:hallmark:tst:1" version="1" check="all" comment="package"
      check_existence="at_least_one_exists"><object object_ref="oval:hallmark:obj:1"/></rpminfo_test>
  </tests>
  <objects>
    <rpminfo_object xmlns="{_OVAL}#linux" id="oval:hallmark:obj:1" version="1">
      <name>%s</name></rpminfo_object>
  </objects>
</oval_definitions>
"""
# A CPE dictionary: the platform that the content is about is this image, if the package is installed.
_LIKENESS = f"""\
<cpe-list xmlns="http://cpe.mitre.org/dictionary/2.0">
  <cpe-item name="%s">
    <title>what is like it</title>
    <check system="{_OVAL}" href="package.xml">{_DEFINITION}</check>
  </cpe-item>
</cpe-list>
"""


class Evaluation(Model):
    """What oscap found. ``rules``: the result of each selected rule, by its name in ComplianceAsCode."""

    profile: str
    content: str
    sha256: str
    scanner: str
    rules: dict[str, str]

    def judged(self) -> dict[str, str]:
        """The results of the rules that oscap could judge, or tried to.

        :raises HallmarkError: there are none. oscap itself is content with that.
        """
        found = {name: result for name, result in self.rules.items() if result in _JUDGED}
        if not found:
            raise HallmarkError(
                f"no rule of the profile {self.profile} could be applied to the image",
                details=[f"{len(self.rules)} rules of {self.content}, each of them not applicable"],
                why="nothing was looked at, and nothing is proven",
                hint="the content is about another release, or its package database wasn't found",
            )
        return found


def evaluate(
    tree: Path,
    *,
    profile: str,
    content: Path,
    package: str,
    platform: str | None,
    work: Path,
    database: str | None = None,
) -> bytes:
    """Judge a tree by a profile; an ``Evaluation`` as JSON.

    :param tree: a copy of the image's files whose links stay in it (``contain``).
    :param profile: the end of the profile's id, such as ``cis_server_l1``.
    :param package: the release package, which must be seen in the tree.
    :param platform: CPE name that the content is about and that it wouldn't recognise this distribution as.
    :param database: the directory of the rpm database, as the guest calls it; default: where it is.
    :raises HallmarkError: the content is missing, oscap failed, or it doesn't see the image's packages.
    """
    if not content.is_file():
        raise HallmarkError(
            "the SCAP content for this profile is not installed",
            where=content,
            why="a policy asks for the profile",
            hint="Debian: apt-get install ssg-nondebian; Fedora: dnf install scap-security-guide",
        )
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    place = database or next((p for p in rpmdb.PLACES if any((tree / p[1:]).glob("*"))), rpmdb.PLACES[-1])
    (home / ".rpmmacros").write_text(f"%_dbpath {place}\n")
    (work / "package.xml").write_text(_PACKAGE % package)
    (work / "likeness.xml").write_text(_LIKENESS % platform)
    env = {"HOME": str(home), "OSCAP_PROBE_ROOT": str(tree), "OSCAP_EVALUATION_TARGET": "image"}
    # There are rules about the path of whoever asks.
    env["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    seen = run(["oscap", "oval", "eval", work / "package.xml"], env=env, timeout=_SECONDS)
    if f"{_DEFINITION}: true" not in seen.stdout:
        raise HallmarkError(
            f"oscap doesn't find the package {package} in the image",
            details=[f"rpm database: {place}", *seen.stdout.splitlines(), *seen.stderr.splitlines()[-5:]],
            why="rules about packages, and what they depend on, would be judged by an empty database",
        )
    results = work / "results.xml"
    likeness: list[str | Path] = ["--cpe", work / "likeness.xml"] if platform else []
    argv = ["oscap", "xccdf", "eval", "--skip-validation", *likeness, "--profile", _PROFILE + profile]
    # 2: a rule failed.
    done = run([*argv, "--results", results, content], env=env, cwd=work, check=False, timeout=_SECONDS)
    if done.returncode not in (0, 2):
        raise HallmarkError(
            f"oscap could not judge the profile {profile} (status {done.returncode})",
            where=content,
            details=[line for line in done.stderr.splitlines() if not line.startswith("WARNING")][-8:],
        )
    version = run(["oscap", "--version"], timeout=60).stdout.splitlines()[0]
    found = Evaluation(
        profile=profile,
        content=content.name,
        sha256=digest_file(content),
        scanner=version,
        rules=_results(results),
    )
    results.unlink()
    return json.dumps(found.model_dump(), sort_keys=True).encode()


def _results(path: Path) -> dict[str, str]:
    found = {}
    for _, element in ElementTree.iterparse(path):
        if element.tag == f"{_XCCDF}rule-result":
            result = element.findtext(f"{_XCCDF}result", "")
            if result != "notselected":
                found[element.get("idref", "").removeprefix(_RULE)] = result
    return found


def contain(tree: Path) -> None:
    """Make every symbolic link of a copied tree lead where it leads in the guest: into the tree."""
    for directory, folders, files in os.walk(tree):
        inside = posixpath.normpath("/" + os.path.relpath(directory, tree))
        for path in (Path(directory, name) for name in (*folders, *files)):
            if path.is_symlink():
                target = os.fspath(path.readlink())
                led = _led(inside, target)
                if led != target:
                    path.unlink()
                    path.symlink_to(led)


def _led(inside: str, target: str) -> str:
    """``target`` of a link in the directory ``inside`` as a path that never leaves the root."""
    level = 0 if target.startswith("/") else inside.count("/") if inside != "/" else 0
    climbs = False
    for part in target.split("/"):
        level += 0 if part in ("", ".") else -1 if part == ".." else 1
        climbs = climbs or level < 0
    if climbs:
        # In a guest nothing is above the root: "/../x" is "/x".
        target = "/" + posixpath.normpath(posixpath.join(inside, target)).lstrip("/")
    if not target.startswith("/"):
        return target
    ups = [".."] * (inside.count("/") if inside != "/" else 0)
    return "/".join([*ups, target.strip("/")] if target.strip("/") else ups) or "."
