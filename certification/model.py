"""What certification talks about: requirements, what was observed of them, and where.

Everything that crosses a module or a process boundary is one of these frozen models, so that a record
that was written by one version and read by another fails loudly instead of being half understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

__all__ = [
    "AREAS",
    "POLICY_OF_TARGET",
    "RUN_FORMAT",
    "VIEWS",
    "AppliesTo",
    "Check",
    "Family",
    "Generation",
    "Kind",
    "Model",
    "Observation",
    "OstreeClaim",
    "Outcome",
    "Requirement",
    "RunRecord",
    "Severity",
    "Subject",
    "SupportEnd",
    "Target",
    "View",
    "Waiver",
]

Severity = Literal["must", "should", "info"]
View = Literal["format", "disk", "booted"]
Family = Literal["rhel", "centos", "atomic"]
Generation = Literal["gen1", "gen2"]
Kind = Literal["machine", "container"]
Target = Literal["azure", "hyperv"]
Outcome = Literal["pass", "fail", "error", "not-applicable"]

#: The policy by which an image must have been judged that is meant to run there, whatever else it is.
POLICY_OF_TARGET: Mapping[Target, str] = {"azure": "azure-marketplace", "hyperv": "hyperv-on-premises"}
VIEWS: tuple[View, ...] = ("format", "disk", "booted")
AREAS = (
    "format",
    "ccsp",
    "azure",
    "hyperv",
    "dotnet",
    "atomic",
    "security",
    "hygiene",
    "support",
    "container",
)
RUN_FORMAT = 2

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(\.[a-z0-9][a-z0-9-]*)+$")]
Text = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    """Frozen, and strict about unknown keys: a typing mistake in data is an error, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(Model):
    """What the guest says it is, as far as requirements depend on it.

    ``families`` is what the guest is judged as. A distribution that is neither RHEL nor CentOS but names
    both in ID_LIKE is judged as Enterprise Linux: by what applies to RHEL and to CentOS alike. ``kind``: a
    machine, or a container image, which has neither a kernel nor services.
    """

    id: str
    version: str
    name: str = ""
    families: frozenset[Family]
    like: bool = False
    kind: Kind = "machine"

    @field_serializer("families")
    def _in_order(self, families: frozenset[Family]) -> list[Family]:
        # A set's own order changes from process to process; two certificates of one image must not differ.
        return sorted(families)

    @classmethod
    def from_os_release(cls, fields: dict[str, str], *, ostree: bool = False) -> Subject:
        """From the fields of os-release(5); ``ostree``: the root is an ostree deployment."""
        identity = fields.get("ID", "")
        like = fields.get("ID_LIKE", "").split()
        families: set[Family] = set()
        by_likeness = False
        if identity == "rhel":
            families = {"rhel"}
        elif identity == "centos":
            families = {"centos"}
        elif "rhel" in like and "centos" in like:
            families, by_likeness = {"rhel", "centos"}, True
        if ostree or fields.get("VARIANT_ID") == "atomic.host":
            families = {"atomic"}
        return cls(
            id=identity,
            version=fields.get("VERSION_ID", ""),
            name=fields.get("PRETTY_NAME") or fields.get("NAME", ""),
            families=frozenset(families),
            like=by_likeness,
        )


class OstreeClaim(Model):
    """What an ostree host is said to run, and where it is said to take its next system from.

    ``commit`` (64 hexadecimal digits) is deployed below ``stateroot``; updates are the ``ref`` of the
    ``remote`` at ``url``, signed with the OpenPGP key ``fingerprint`` (upper case); "" where nobody says.
    """

    commit: str
    stateroot: str
    remote: str
    ref: str
    url: str
    fingerprint: str = ""


class AppliesTo(Model):
    """The images that a requirement is about. ``versions`` is a PEP 440 specifier over VERSION_ID, or
    ``*``. ``kinds``: machines unless it says more.
    """

    families: frozenset[Family] = frozenset({"rhel", "centos", "atomic"})
    versions: str = "*"
    generations: frozenset[Generation] = frozenset({"gen1", "gen2"})
    targets: frozenset[Target] = frozenset({"azure", "hyperv"})
    kinds: frozenset[Kind] = frozenset({"machine"})

    @field_validator("versions")
    @classmethod
    def _specifier(cls, value: str) -> str:
        if value != "*":
            try:
                SpecifierSet(value)
            except InvalidSpecifier:
                raise ValueError(f"{value!r} is no version specifier such as '>=9,<10' or '*'") from None
        return value

    def excludes(self, subject: Subject) -> str | None:
        """Why a requirement doesn't apply to ``subject``; None when it does."""
        if subject.kind not in self.kinds:
            return f"only for {' and '.join(f'{kind}s' for kind in sorted(self.kinds))}"
        families = ", ".join(sorted(self.families))
        if subject.like:
            if not subject.families <= self.families:
                return f"only for {families}, not for every Enterprise Linux"
        elif not subject.families & self.families:
            return f"only for {families}"
        if self.versions == "*":
            return None
        try:
            version = Version(subject.version)
        except InvalidVersion:
            # An unreadable version must not make requirements vanish: let the tests look and say so.
            return None
        if version not in SpecifierSet(self.versions):
            return f"only for versions {self.versions}, this is {subject.version}"
        return None


class Requirement(Model):
    """One thing that a certified image must satisfy.

    ``views`` are the ways to look that can prove it. ``not_provable_here`` says what would prove it when none
    can (a real Azure or Hyper-V host); such an entry is listed in every report and decided in none. ``once``:
    the firmware makes no difference, so that one of the booted looks decides for all.
    ``optional``: it is looked at only when it is asked for, because a policy in force selects it.
    """

    id: Identifier
    title: Text
    severity: Severity
    area: Text
    applies_to: AppliesTo = AppliesTo()
    views: tuple[View, ...] = ()
    not_provable_here: str | None = None
    once: bool = False
    optional: bool = False
    rationale: Text
    remedy: Text
    source: tuple[Text, ...] = Field(min_length=1)

    @field_validator("area")
    @classmethod
    def _known_area(cls, value: str) -> str:
        if value not in AREAS:
            raise ValueError(f"unknown area {value!r}; there are {', '.join(AREAS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("source"), str):
            return {**data, "source": [data["source"]]}
        return data

    @model_validator(mode="after")
    def _provable_somewhere(self) -> Requirement:
        if bool(self.views) == bool(self.not_provable_here):
            raise ValueError("give either views or not_provable_here")
        if len(set(self.views)) != len(self.views):
            raise ValueError("a view is listed twice")
        if self.optional and "booted" in self.views:
            raise ValueError("only what is decided without a boot can be optional")
        return self


class Check(Model):
    """One comparison that a test made: what was looked at, what was expected and what was seen.

    ``unique``: no two machines of an image may show this; whoever has seen two compares.
    """

    what: str
    expected: str
    observed: str
    ok: bool
    unique: bool = False


class SupportEnd(Model):
    """The last day on which something that is baked in is supported."""

    what: str
    ends: date


class Observation(Model):
    """What one test saw of one requirement in one view; ``seconds`` is the time the test took."""

    requirement: str
    view: View
    variant: str | None = None
    outcome: Outcome
    message: str = ""
    checks: tuple[Check, ...] = ()
    supported_until: tuple[SupportEnd, ...] = ()
    test: str = ""
    seconds: float = 0.0

    @property
    def expected(self) -> str:
        """What was expected: of the comparisons that failed if any did."""
        return "; ".join(f"{c.what}: {c.expected}" for c in self._telling())

    @property
    def observed(self) -> str:
        """What was seen: in the comparisons that failed if any did."""
        return "; ".join(f"{c.what}: {c.observed}" for c in self._telling())

    def _telling(self) -> tuple[Check, ...]:
        return tuple(c for c in self.checks if not c.ok) or self.checks


class RunRecord(Model):
    """How one look at the image went. Written last: a run without it ended early.

    ``problems`` are defects of the suite or of the run itself (a test without a requirement, a crash). Any
    problem makes the run an error. ``before`` and ``after`` identify the image's bytes at both ends; both are
    empty for a running machine of which nobody has the image. ``console`` are the last lines of the guest's
    serial console where something went wrong. ``recorded`` is when the look was taken that this one repeats
    from its recording. ``claim`` is what the image was called, where it was called anything.
    ``elsewhere`` are the requirements that another booted look decides, and this one left out. ``ostree`` is
    what an ostree host was said to run.
    """

    format: int = RUN_FORMAT
    view: View
    variant: str | None = None
    subject: Subject | None = None
    problems: tuple[str, ...] = ()
    before: str
    after: str
    catalogue: str
    suites: str
    started: str
    seconds: float
    console: tuple[str, ...] = ()
    recorded: str | None = None
    claim: str | None = None
    elsewhere: tuple[str, ...] = ()
    ostree: OstreeClaim | None = None


class Waiver(Model):
    """A failure that somebody answers for until a day. ``scope`` is a recipe's name or ``*``."""

    requirement: Identifier
    scope: Text
    owner: Text
    reason: Annotated[str, Field(min_length=20)]
    expires: date
