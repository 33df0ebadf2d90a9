"""Looks that end without a certificate: at a recording, at a running machine, at a single requirement."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from rich.markup import escape

from builder import log
from builder.certify import (
    acceleration_for,
    claim_of,
    key_directory,
    observe_booted,
    ostree_claim_of,
    show_slowest,
    views_of,
)
from builder.errors import EXIT_FAILURE, HallmarkError
from builder.recipe import Plan, find, load, plan
from builder.vm.machine import boot
from builder.workspace import Artefacts, Workspace, digest_file
from certification import catalogue, certificate, judge, keys, observe, policy, recording, report

__all__ = ["Judging", "SshTarget", "command", "machines", "replay", "requirement"]


@dataclass(frozen=True, slots=True)
class Judging:
    """What is judged by: policies by name, the waivers file, the recipe whose waivers hold, and what a
    machine made from that recipe is called (``ID:RELEASE``).
    """

    policies: tuple[str, ...]
    waivers: Path | None = None
    recipe: str = ""
    claim: str | None = None

    @classmethod
    def of(cls, plan: Plan, images: Path) -> Judging:
        """As the certification of an image of this plan judges; ``images`` holds its waivers file."""
        chosen = plan.certification
        waivers = images / chosen.waivers if chosen.waivers else None
        return cls(tuple(chosen.policies), waivers, plan.recipe, claim_of(plan))


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A machine: ``ssh://USER@HOST[:PORT][?identity=FILE&known-hosts=FILE]``."""

    user: str
    host: str
    port: int
    identity: Path | None = None
    known_hosts: Path | None = None

    @classmethod
    def parse(cls, url: str) -> SshTarget:
        """Read such a URL.

        :raises HallmarkError: it is no such URL.
        """
        expected = "ssh://USER@HOST[:PORT][?identity=FILE][&known-hosts=FILE]"
        shown = re.sub(r":[^:@/]*@", ":***@", url, count=1)
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            port = parts.port or 22
        except ValueError as error:
            raise HallmarkError(f"this is no address: {error}", where=shown, hint=expected) from None
        user, host = unquote(parts.username or ""), parts.hostname or ""
        unknown = sorted(set(options) - {"identity", "known-hosts"})
        plain = re.fullmatch(r"[A-Za-z0-9_][\w.@-]*", user) and re.fullmatch(r"[A-Za-z0-9_:][\w.:%-]*", host)
        if parts.scheme != "ssh" or not plain or parts.password or parts.path.strip("/") or unknown:
            details = [f"unknown: {name}" for name in unknown]
            raise HallmarkError(
                "this is no address of a machine",
                where=shown,
                hint=f"expected is {expected}",
                details=details,
            )
        files = {name: Path(value).expanduser() for name, value in options.items()}
        for name, path in files.items():
            if not path.is_file():
                raise HallmarkError(f"there is no such file for {name}", where=path)
            if re.search(r'["\n\r]', str(path)):
                raise HallmarkError("ssh can't be told a path with a quote in it", where=repr(str(path)))
        return cls(user, host, port, files.get("identity"), files.get("known-hosts"))

    @property
    def name(self) -> str:
        """For people and for the names of directories."""
        return re.sub(r"[^\w.-]", "-", self.host) + (f"-{self.port}" if self.port != 22 else "")

    def config(self, sockets: Path) -> str:
        """An ssh_config(5) with this machine under the name that the booted view uses.

        The machine must be known: who certifies whatever answers on an address certifies nothing.
        """
        lines = {
            "HostName": self.host,
            "Port": str(self.port),
            "User": self.user,
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "ControlMaster": "auto",
            "ControlPath": f'"{sockets / "ssh"}"',
            "ControlPersist": "60",
            "LogLevel": "ERROR",
        }
        if self.identity is not None:
            lines |= {"IdentityFile": _quoted(self.identity), "IdentitiesOnly": "yes"}
        if self.known_hosts is not None:
            lines |= {"UserKnownHostsFile": _quoted(self.known_hosts), "GlobalKnownHostsFile": "/dev/null"}
        return "Host *\n" + "".join(f"  {key} {value}\n" for key, value in lines.items())


def command(options: argparse.Namespace, workspace: Workspace) -> int:
    """``hallmark certify --replay`` and ``--hosts``; the exit status.

    :raises HallmarkError: nothing says what to judge by, or there is nothing to look at.
    """
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    out = options.out or workspace.build / "reports" / now
    judging = _judging(options)
    if options.replay:
        good = replay(workspace, options.replay, judging=judging, out=out, key=options.key)
    else:
        good = machines(workspace, options.hosts, judging=judging, out=out)
    return 0 if good else EXIT_FAILURE


def _judging(options: argparse.Namespace) -> Judging:
    """What to judge by: policies that are named; else a recipe; else the plan beside the recording."""
    if options.policy:
        named = load(find(options.recipe)).name if options.recipe else ""
        return Judging(tuple(options.policy), options.waivers, named)
    if options.recipe:
        recipe = load(find(options.recipe))
        major = recipe.context.release.partition(".")[0]
        draft = plan(recipe, version=f"{major}.{datetime.now(UTC):%Y%m%d}.0", source_date_epoch=0)
        return Judging.of(draft, recipe.root)
    for place in (options.replay, *options.replay.parents[:2]) if options.replay else ():
        if (place / "plan.json").is_file():
            found = Plan.model_validate_json((place / "plan.json").read_bytes())
            return Judging.of(found, find(found.recipe).parent)
    raise HallmarkError(
        "nothing says what to judge by",
        hint="name policies with --policy, or a recipe: hallmark certify RECIPE --replay FILE",
    )


def replay(workspace: Workspace, path: Path, *, judging: Judging, out: Path, key: Path | None) -> bool:
    """Take the looks of a recording again, without the image, and judge them; whether nothing refuses.

    Where a certificate lies beside the recording, it must be of this recording.

    :param judging: what to judge by now; it may differ from what was judged by then.
    :param out: directory for the reports.
    :param key: the public key for that certificate; default: this machine's own.
    :raises HallmarkError: there is no recording at ``path``.
    """
    recorded = recording.load(path)
    # What was recorded on a running machine never had an image; nothing else may lack a view.
    machine = all(item.view == "booted" and item.run and not item.run.before for item in recorded)
    asked = policy.optional(judging.policies, catalogue=catalogue.load())
    with _work(workspace) as work:
        for item in recorded:
            observe.observe(
                item.view,
                None,
                out=work / item.name,
                logs=work / "log",
                variant=item.variant,
                replay=path,
                asked=asked,
            )
        return _judge(
            [work / item.name / "observations.jsonl" for item in recorded],
            judging,
            source="machine" if machine else "recording",
            out=out,
            problem=_foreign(path, key),
        )


def machines(workspace: Workspace, urls: Sequence[str], *, judging: Judging, out: Path) -> bool:
    """Look at running machines over ssh, one after the other; whether nothing refuses in any of them.

    Only the booted view can look: what takes the image is listed as not provable. No certificate comes of it,
    for nobody can tell which bytes the machine was made from.

    :raises HallmarkError: an address is wrong. A machine that doesn't answer is a result.
    """
    targets = [SshTarget.parse(url) for url in urls]
    good = True
    for target in targets:
        place = out / target.name
        place.mkdir(parents=True, exist_ok=True)
        with log.step(f"look at {target.name}"), _sockets() as sockets:
            config = sockets / "config"
            config.write_text(target.config(sockets))
            # The recording of the look stays beside the reports: it can be judged again later.
            observe.observe(
                "booted", None, out=place, logs=place / "log", ssh_config=config, claim=judging.claim
            )
        named = judging if judging.recipe else replace(judging, recipe=target.name)
        good = _judge([place / "observations.jsonl"], named, source="machine", out=place) and good
    return good


def requirement(
    workspace: Workspace, artefacts: Artefacts, decided: Plan, identifier: str, *, every_view: bool = False
) -> bool:
    """Look at one requirement in an image and print what is seen; whether nothing failed.

    :param every_view: look in all its views; otherwise in the quickest: the bytes, the disk, a boot.
    :raises HallmarkError: the catalogue doesn't know it, or no view here can prove it.
    """
    known = catalogue.load()
    if identifier not in known:
        near = [item.id for item in known if identifier.partition(".")[2][:6] in item.id][:8]
        raise HallmarkError(f"the catalogue has no requirement {identifier!r}", details=near)
    entry = known[identifier]
    if entry.not_provable_here:
        raise HallmarkError(f"{identifier} can't be proven here", why=entry.not_provable_here)
    views = views_of(decided)[::-1]
    wanted = [look for look in views if look.view in entry.views]
    image = artefacts.output(decided.image_format)
    good = True
    for look in wanted if every_view else wanted[:1]:
        acceleration = acceleration_for(workspace, decided)
        with _work(workspace) as work:
            if look.firmware is not None:
                observe_booted(
                    image,
                    guest=boot(
                        image,
                        firmware=look.firmware,
                        work=work,
                        logs=work / "log",
                        acceleration=acceleration,
                    ),
                    firmware=look.firmware,
                    out=work / "out",
                    logs=work / "log",
                    claim=claim_of(decided),
                    only=(identifier,),
                )
            else:
                observe.observe(
                    look.view,
                    image,
                    out=work / "out",
                    logs=work / "log",
                    force_tcg=acceleration.kind == "tcg",
                    claim=claim_of(decided),
                    ostree=ostree_claim_of(artefacts, decided),
                    only=(identifier,),
                )
            run = judge.load_run(work / "out")
        for problem in run.record.problems if run.record else ("the look ended early",):
            log.warn(problem)
            good = False
        for seen in run.observations:
            good = good and seen.outcome in ("pass", "not-applicable")
            log.console.print(f"[bold]{seen.outcome}[/bold] {identifier} ({look.name}, {seen.seconds:.2f} s)")
            for check in seen.checks:
                mark = "✓" if check.ok else "✗"
                text = f"  {mark} {check.what}: expected {check.expected}, observed {check.observed}"
                log.console.print(escape(text))
            if seen.message and not seen.checks:
                log.console.print(escape(f"  {seen.message}"))
    if not good:
        log.console.print(f"remedy: {entry.remedy}")
    return good


def _judge(
    observations: Sequence[Path],
    judging: Judging,
    *,
    source: judge.Source,
    out: Path,
    problem: str | None = None,
) -> bool:
    """Judge looks, write the reports and print what came out; whether nothing refuses."""
    judgement = judge.judge(
        observations,
        policies=judging.policies,
        waivers=judging.waivers,
        recipe=judging.recipe,
        now=datetime.now(UTC),
        source=source,
    )
    if problem:
        judgement = replace(judgement, problems=(*judgement.problems, problem))
    report.write(judgement, html=out / "report.html", junit=out / "report.xml", json=out / "results.json")
    show_slowest(judgement)
    for reason in judgement.reasons():
        log.warn(reason)
    log.info(", ".join(f"{number} {kind}" for kind, number in judgement.counts.items() if number))
    unseen = judgement.counts["not-provable-here"]
    log.info(f"{unseen} requirements can't be proven from this; the report says what would prove each")
    log.info(f"report: {out / 'report.html'}")
    return judgement.certified


def _foreign(path: Path, key: Path | None) -> str | None:
    """Why the certificate beside a recording isn't of that recording; None when it is or there is none."""
    beside = path.parent / "certificate.json"
    if not path.is_file() or not beside.is_file():
        return None
    digest = certificate.evidence_digest(beside, key or keys.ensure(key_directory()).public)
    if digest == digest_file(path):
        return None
    return "the recording isn't the one that the certificate beside it was issued on"


def _quoted(path: Path) -> str:
    return '"' + str(path.resolve()).replace("%", "%%") + '"'


@contextmanager
def _work(workspace: Workspace) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="examine-", dir=workspace.work))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _sockets() -> Iterator[Path]:
    """A private directory with a short path: that of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hallmark-") as directory:
        yield Path(directory)
