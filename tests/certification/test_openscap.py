"""SCAP profiles: a small benchmark on a small tree, with the real oscap and a real package database."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import HallmarkError
from certification.checks import Checks
from certification.expectations import Facts
from certification.suites import test_security_profile as suite
from certification.views.openscap import Evaluation, contain, evaluate

PLATFORM = "cpe:/o:hallmark:small:9"
BENCHMARK = f"""\
<Benchmark xmlns="http://checklists.nist.gov/xccdf/1.2" id="xccdf_hallmark_benchmark_small" resolved="1">
  <status>draft</status><title>small</title><platform idref="{PLATFORM}"/><version>1</version>
  <Profile id="xccdf_org.ssgproject.content_profile_small"><title>small</title>%s</Profile>%s
</Benchmark>
"""
RULE = """
  <Rule id="xccdf_org.ssgproject.content_rule_%s" selected="false"><title>t</title>
    <check system="http://oval.mitre.org/XMLSchema/oval-definitions-5">
      <check-content-ref href="oval.xml" name="oval:small:def:%d"/></check></Rule>"""
OVAL = """\
<oval_definitions xmlns="http://oval.mitre.org/XMLSchema/oval-definitions-5"
  xmlns:oval="http://oval.mitre.org/XMLSchema/oval-common-5"
  xmlns:ind="http://oval.mitre.org/XMLSchema/oval-definitions-5#independent"
  xmlns:linux="http://oval.mitre.org/XMLSchema/oval-definitions-5#linux">
  <generator><oval:schema_version>5.11</oval:schema_version>
    <oval:timestamp>2026-01-01T00:00:00</oval:timestamp></generator>
  <definitions>
    <definition class="compliance" id="oval:small:def:1" version="1"><metadata><title>file</title>
      <description>d</description></metadata><criteria><criterion test_ref="oval:small:tst:1"/></criteria>
    </definition>
    <definition class="compliance" id="oval:small:def:2" version="1"><metadata><title>package</title>
      <description>d</description></metadata><criteria><criterion test_ref="oval:small:tst:2"/></criteria>
    </definition>
  </definitions>
  <tests>
    <ind:textfilecontent54_test id="oval:small:tst:1" version="1" check="all" comment="c"
      check_existence="at_least_one_exists"><ind:object object_ref="oval:small:obj:1"/>
    </ind:textfilecontent54_test>
    <linux:rpminfo_test id="oval:small:tst:2" version="1" check="all" comment="c"
      check_existence="at_least_one_exists"><linux:object object_ref="oval:small:obj:2"/></linux:rpminfo_test>
  </tests>
  <objects>
    <ind:textfilecontent54_object id="oval:small:obj:1" version="1"><ind:filepath>/etc/marker</ind:filepath>
      <ind:pattern operation="pattern match">^good$</ind:pattern>
      <ind:instance datatype="int">1</ind:instance></ind:textfilecontent54_object>
    <linux:rpminfo_object id="oval:small:obj:2" version="1"><linux:name>telnet</linux:name>
    </linux:rpminfo_object>
  </objects>
</oval_definitions>
"""
RULES = {"the_marker_is_good": 1, "telnet_is_installed": 2}


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    # oscap's parser overlooks every other element that follows another one without white space.
    selects = "".join(
        f'\n<select idref="xccdf_org.ssgproject.content_rule_{name}" selected="true"/>\n' for name in RULES
    )
    content = tmp_path / "content"
    content.mkdir()
    (content / "oval.xml").write_text(OVAL)
    rules = "".join(RULE % (name, number) for name, number in RULES.items()) + RULE % ("never_asked", 1)
    (content / "small.xml").write_text(BENCHMARK % (selects, rules))
    return content / "small.xml"


@pytest.fixture
def guest_files(tmp_path: Path, database: Path) -> Path:
    root = tmp_path / "root"
    for name in ("etc", "usr/lib", "var/lib"):
        (root / name).mkdir(parents=True)
    shutil.copytree(database, root / "var/lib/rpm")
    (root / "usr/lib/marker").write_text("good\n")
    (root / "etc/marker").symlink_to("/usr/lib/marker")
    return root


def look(tree: Path, content: Path, **more: Any) -> Evaluation:
    given: dict[str, Any] = {"package": "hallmark-sample-release", "platform": PLATFORM, "profile": "small"}
    work = tree.parent / "work"
    return Evaluation.model_validate_json(evaluate(tree, content=content, work=work, **{**given, **more}))


@pytest.mark.system
def test_rules_are_judged_by_the_copied_files_and_by_nothing_else(guest_files: Path, benchmark: Path) -> None:
    assert look(guest_files, benchmark).rules == {"the_marker_is_good": "fail", "telnet_is_installed": "fail"}
    contain(guest_files)
    found = look(guest_files, benchmark)
    assert found.judged() == {"the_marker_is_good": "pass", "telnet_is_installed": "fail"}
    (guest_files / "usr/lib/marker").write_text("bad\n")
    assert look(guest_files, benchmark).rules["the_marker_is_good"] == "fail"
    assert not Path("/usr/lib/marker").exists()


@pytest.mark.system
def test_a_profile_that_could_not_be_applied_is_an_error(guest_files: Path, benchmark: Path) -> None:
    unknown = look(guest_files, benchmark, platform=None)
    assert set(unknown.rules.values()) == {"notapplicable"}
    with pytest.raises(HallmarkError, match="no rule of the profile small could be applied"):
        unknown.judged()


@pytest.mark.system
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": "/usr/lib/nothing"}, "doesn't find the package hallmark-sample-release"),
        ({"package": "redhat-release"}, "doesn't find the package redhat-release"),
        ({"profile": "large"}, "could not judge the profile large"),
        ({"content": Path("/no/such/content.xml")}, "is not installed"),
    ],
)
def test_an_evaluation_that_would_say_nothing_is_refused(
    guest_files: Path, benchmark: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(HallmarkError, match=said):
        look(guest_files, **{"content": benchmark, **change})


@pytest.mark.parametrize(
    ("link", "target", "led"),
    [
        ("etc/x", "/usr/x", "../usr/x"),
        ("x", "/usr/x", "usr/x"),
        ("a/b/x", "/", "../.."),
        ("x", "/", "."),
        ("etc/x", "../usr/x", "../usr/x"),
        ("etc/x", "x/../y", "x/../y"),
        ("etc/x", "../../../usr/x", "../usr/x"),
        ("etc/x", "/../usr/x", "../usr/x"),
        ("a/b/x", "c/../../../../../etc/passwd", "../../etc/passwd"),
    ],
)
def test_links_lead_where_they_lead_in_the_guest(tmp_path: Path, link: str, target: str, led: str) -> None:
    path = tmp_path / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    contain(tmp_path)
    assert str(path.readlink()) == led


CIS = "cis_server_l1"


def judged(**changed: str | None) -> Checks:
    """The requirement's test on the sample's expected results, with some of them changed."""
    facts = Facts(os_id="hallmark-sample", version="9")
    how = facts.profile(CIS)
    assert how is not None
    rules: dict[str, str | None] = {rule: row["result"] for row in how["differs"] for rule in row["rules"]}
    rules |= {"no_empty_passwords": "pass", "grub2_password": "notapplicable", **changed}
    found = Evaluation(
        profile=CIS,
        content=how["content"],
        sha256="0" * 64,
        scanner="oscap",
        rules={rule: result for rule, result in rules.items() if result is not None},
    )
    access = SimpleNamespace(made=lambda name, make: found.model_dump_json().encode())
    check = Checks()
    suite._profile(CIS, None, SimpleNamespace(access=access), facts, check)  # type: ignore[arg-type]
    return check


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"no_empty_passwords": "fail"}, "no_empty_passwords"),
        ({"a_rule_of_tomorrow": "fail"}, "a_rule_of_tomorrow"),
        ({"no_empty_passwords": "error"}, "no_empty_passwords"),
        ({"package_aide_installed": "pass"}, "package_aide_installed"),
        ({"package_aide_installed": None}, "expectations about rules that were not judged"),
        ({"package_aide_installed": "notapplicable"}, "expectations about rules that were not judged"),
    ],
)
def test_each_rule_is_held_against_its_expectation(changed: dict[str, str | None], said: str | None) -> None:
    assert [item.what for item in judged(**changed).failed] == ([] if said is None else [said])


def test_expectations_have_reasons_and_are_about_distributions_that_we_know() -> None:
    for os_id in ("hallmark-sample", "rhel", "centos"):
        how = Facts(os_id=os_id, version="9").profile(CIS)
        assert how is not None and how["content"].endswith("-ds.xml")
        assert all(len(row["reason"]) >= 20 and row["rules"] for row in how["differs"])
    assert Facts(os_id="rhel", version="8.10").profile("rht-ccp") is not None
    assert Facts(os_id="rhel", version="9.4").profile("rht-ccp") is None
