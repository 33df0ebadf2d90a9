"""Looks at an image in one view, in a process of its own, and always leaves a record.

Whatever happens to that process — a crash of libguestfs, a hanging guest, a suite that can't be imported —
the requirements that it did not decide become errors, never passes, and never a hang.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.run import run
from certification import catalogue as catalogues
from certification.catalogue import REQUIREMENTS, SUITES
from certification.evidence import scrub
from certification.model import Observation, OstreeClaim, RunRecord, View
from certification.views.base import identity

__all__ = ["DEADLINES", "give_up", "keep_console", "observe"]

#: Seconds until a look is given up. Generous: an emulated machine under load takes several times its usual
#: time.
DEADLINES: dict[View, float] = {"format": 120, "disk": 900, "booted": 1200}
_CONFIG = Path(__file__).resolve().parent / "pytest.ini"


def observe(
    view: View,
    image: Path | None,
    *,
    out: Path,
    logs: Path,
    replay: Path | None = None,
    ssh_config: Path | None = None,
    variant: str | None = None,
    claim: str | None = None,
    ostree: OstreeClaim | None = None,
    elsewhere: tuple[str, ...] = (),
    force_tcg: bool = False,
    deadline: float | None = None,
    suites: Path = SUITES,
    catalogue: Path = REQUIREMENTS,
    only: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    test_seconds: float = 120,
) -> None:
    """Run the suites against one view of an image.

    Writes ``observations.jsonl``, ``evidence.jsonl`` and ``run.json`` to ``out``. A failed requirement is a
    result, not an error of this function.

    :param image: None: a running machine of which nobody has the image (``ssh_config``), or a recording.
    :param replay: an ``evidence.jsonl`` or its directory: look at that, not at an image.
    :param logs: where the suite's own output goes (``observe-VIEW.log``).
    :param variant: the firmware of a booted view: ``bios``, ``uefi`` or ``uefi-secure``.
    :param claim: what the certificate will call the image, ``ID:RELEASE`` as in os-release (``rhel:9.8``):
        the facts about that are what the image must meet. Default: whatever the guest says that it is.
    :param ostree: what an ostree host is said to run; None: nobody says.
    :param elsewhere: requirements that another booted look decides; leave them out.
    :param deadline: seconds; default: ``DEADLINES``.
    :param only: look at these requirements alone.
    :param asked: optional requirements to look at, too (``certification.policy.optional``).
    :param test_seconds: the deadline of each single test.
    :raises HallmarkError: the image can't be read, or the catalogue is broken.
    """
    catalogues.load(catalogue)  # a broken one is an error here, not in a process of its own
    before = identity(image) if image is not None else ""
    out.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    for name in ("observations.jsonl", "evidence.jsonl", "run.json"):
        (out / name).unlink(missing_ok=True)
    name = f"{view}-{variant}" if variant else view
    log_file = logs / f"observe-{name}.log"
    argv = [sys.executable, "-m", "pytest", "-p", "certification.plugin", "-p", "no:cacheprovider"]
    argv += ["-c", str(_CONFIG), "--rootdir", str(suites), "-q", "--tb=short", "--durations=15"]
    argv += ["--hallmark-view", view, "--hallmark-out", str(out)]
    for option, path in (("image", image), ("replay", replay)):
        argv += [f"--hallmark-{option}", str(path)] if path is not None else []
    argv += ["--hallmark-catalogue", str(catalogue), "--hallmark-test-seconds", str(test_seconds)]
    if ssh_config is not None:
        argv += ["--hallmark-ssh-config", str(ssh_config)]
    if variant is not None:
        argv += ["--hallmark-variant", variant]
    if claim is not None:
        argv += ["--hallmark-claim", claim]
    if ostree is not None:
        argv += ["--hallmark-ostree", ostree.model_dump_json()]
    if force_tcg:
        argv += ["--hallmark-force-tcg"]
    for option, names in (("only", only), ("asked", asked), ("elsewhere", elsewhere)):
        argv += [f"--hallmark-{option}", ",".join(names)] if names else []
    argv += [str(suites)]
    # The suites are read from the project, not from wherever the caller stands; bytecode would change their
    # digest directory under a running certification.
    env = {"PYTHONPATH": str(SUITES.parent.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""}
    # No plugin but ours: testinfra's own would make `host` the machine that runs the tests.
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    started = datetime.now(UTC)
    began = time.monotonic()
    trouble: str | None = None
    try:
        done = run(argv, env=env, check=False, log_file=log_file, timeout=deadline or DEADLINES[view])
        # 5: no test was left to run, because no requirement applies; the records say so.
        if done.returncode not in (0, 1) and not (done.returncode == 5 and (out / "run.json").exists()):
            trouble = f"the suites ended with status {done.returncode}{_tail(log_file)}"
    except CommandFailed as error:
        trouble = f"the suites were ended: {error.what}"
    seconds = time.monotonic() - began
    if trouble is not None or not (out / "run.json").exists():
        give_up(
            trouble or f"the suites ended without a record{_tail(log_file)}",
            view=view,
            image=image,
            before=before,
            variant=variant,
            out=out,
            catalogue=catalogue,
            suites=suites,
            only=only,
            asked=asked,
            started=started,
            seconds=seconds,
        )
    _summarise(out, name, seconds)


def give_up(
    trouble: str,
    *,
    view: View,
    image: Path | None,
    out: Path,
    variant: str | None = None,
    console: Sequence[str] = (),
    before: str | None = None,
    catalogue: Path = REQUIREMENTS,
    suites: Path = SUITES,
    only: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    started: datetime | None = None,
    seconds: float = 0.0,
) -> None:
    """Complete the records of a look that came to no good end, or to none: what has no verdict is an error.

    :param trouble: what happened; its first line becomes the message of each error.
    :param console: the last lines of the guest's serial console.
    :param before: the identity of the image when the look began; default: as it is now.
    """
    known = catalogues.load(catalogue)
    out.mkdir(parents=True, exist_ok=True)
    trouble = scrub(trouble)
    path, record_path = out / "observations.jsonl", out / "run.json"
    kept: list[Observation] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            kept.append(Observation.model_validate_json(line))
        except ValueError:
            continue  # the line that was being written when the process ended
    decided = {observation.requirement for observation in kept}
    for entry in known:
        meant = entry.id in only if only else not entry.optional or entry.id in asked
        if view in entry.views and entry.id not in decided and meant:
            message = trouble.splitlines()[0]
            kept.append(
                Observation(
                    requirement=entry.id, view=view, variant=variant, outcome="error", message=message
                )
            )
    path.write_text("".join(observation.model_dump_json() + "\n" for observation in kept), encoding="utf-8")
    (out / "evidence.jsonl").touch()
    if record_path.exists():
        record = RunRecord.model_validate_json(record_path.read_text(encoding="utf-8"))
        record = record.model_copy(update={"problems": (*record.problems, trouble)})
    else:
        after = identity(image) if image is not None else ""
        record = RunRecord(
            view=view,
            variant=variant,
            problems=(trouble,),
            before=before if before is not None else after,
            after=after,
            catalogue=known.digest,
            suites=catalogues.suites_digest(suites),
            started=(started or datetime.now(UTC)).isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
        )
    record_path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    keep_console(out, console)
    log.warn(f"{f'{view}-{variant}' if variant else view} view: {trouble.splitlines()[0]}")


def keep_console(out: Path, lines: Sequence[str]) -> None:
    """Add the last lines of the guest's serial console to the record of a look that went wrong."""
    path = out / "run.json"
    record = RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    observations = (out / "observations.jsonl").read_text(encoding="utf-8").splitlines()
    wrong = any(Observation.model_validate_json(line).outcome == "error" for line in observations)
    if lines and (record.problems or wrong):
        console = tuple(scrub("\n".join(lines)).splitlines())
        record = record.model_copy(update={"console": console})
        path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _summarise(out: Path, name: str, seconds: float) -> None:
    lines = (out / "observations.jsonl").read_text(encoding="utf-8").splitlines()
    outcomes = [Observation.model_validate_json(line).outcome for line in lines]
    shown = ", ".join(
        f"{outcomes.count(kind)} {kind}" for kind in ("pass", "fail", "error", "not-applicable")
    )
    log.info(f"{name} view: {shown} in {seconds:.1f} s")


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise HallmarkError(f"the log can't be read: {error.strerror}", where=path) from None
    return "".join(f"\n{line}" for line in lines[-8:])
