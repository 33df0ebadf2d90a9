"""The states of a release: staged → released → deprecated → withdrawn; and the way back of a channel.

A channel is a recipe's line of releases; its current one is the newest that is released. Every change says
who, when and why, in the record and at the destination. Run again, a change does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.publish import gate, licence, registry, tags
from builder.publish.destination import FileDestination, RegistryDestination, parse
from builder.publish.mark import Placed, mark
from builder.publish.records import of_recipe, one
from builder.publish.release import GalleryVersion, Location, Release, State, Transition, now_utc, whoami
from builder.publish.service import service_of
from builder.versions import parse as parse_version
from builder.workspace import Artefacts, Workspace
from certification.certificate import read

__all__ = ["GRACE", "Actor", "change", "current", "rollback"]

#: How long a withdrawn release stays for an investigation before it may be cleared away.
GRACE = timedelta(days=30)
_FROM: dict[State, tuple[State, ...]] = {
    "staged": (),
    "released": ("staged", "deprecated"),
    "deprecated": ("released",),
    "withdrawn": ("staged", "released", "deprecated"),
}
_INSTEAD: dict[State, str] = {
    "staged": "promote it first, or withdraw it",
    "released": "deprecate or withdraw it",
    "deprecated": "promote it again, or withdraw it",
    "withdrawn": "it never comes back: build a new version",
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes a state, when and why; and with which key certificates are checked."""

    why: str
    public_key: Path
    who: str
    now: datetime

    @classmethod
    def of(cls, *, why: str, public_key: Path, who: str | None = None, now: datetime | None = None) -> Actor:
        """The person at this machine, now.

        :raises HallmarkError: no reason is given.
        """
        if not why.strip():
            raise HallmarkError(
                "a change of state needs a reason",
                why="whoever meets the release in the catalog wants to know it",
                hint='--why "…"',
            )
        return cls(why.strip(), public_key, who or whoami(), now or now_utc())


def change(
    workspace: Workspace, recipe: str, state: State, *, version: str | None, actor: Actor
) -> tuple[Release, bool]:
    """Bring one release (the newest by default) into a state; the record, and whether anything changed.

    A withdrawal takes back what is still there: what somebody deleted, or put something else in the place of,
    is told and recorded as deleted.

    :raises HallmarkError: there is no such release, it can't go there from its state, its certificate or its
        licence doesn't allow it or no destination has it any more (promotion only), or a destination can't be
        reached: nothing is recorded.
    """
    artefacts, release = one(workspace, recipe, version)
    return _change(workspace, artefacts, release, state, actor, rollback_to=None)


def current(workspace: Workspace, channel: str) -> Release | None:
    """What consumers of a channel should take: its newest release in state released."""
    return next((item for _, item in of_recipe(workspace, channel) if item.state == "released"), None)


def rollback(workspace: Workspace, channel: str, *, to: str | None, actor: Actor) -> tuple[Release, bool]:
    """Take back the current release of a channel: an earlier one is current again, newer ones are withdrawn.

    :param to: the version to go back to; by default the one that was released before the current one. Run
        again without it, a rollback that was made, or begun, is only finished: it never goes back twice.
    :raises HallmarkError: there is nothing to go back to, or that can't be released any more.
    """
    found = of_recipe(workspace, channel)
    if to is None:
        last = max((item.history[-1] for _, item in found), key=lambda made: (made.when, made.rollback or ""))
        to = last.rollback or _before_current(channel, found).version
    artefacts, target = one(workspace, channel, to)
    newer = [
        (place, item)
        for place, item in found
        if item.state == "released" and parse_version(item.version) > parse_version(target.version)
    ]
    # The good one first: killed in between, the channel has two releases and not none.
    target, changed = _change(workspace, artefacts, target, "released", actor, rollback_to=to)
    for place, item in newer:
        _, moved = _change(workspace, place, item, "withdrawn", actor, rollback_to=to)
        changed = changed or moved
    return target, changed


def _before_current(channel: str, found: list[tuple[Artefacts, Release]]) -> Release:
    versions = [item for _, item in found]
    now = next((item for item in versions if item.state == "released"), None)
    if now is None:
        raise HallmarkError(
            f"nothing of {channel} is released",
            why="a rollback takes the current release back",
            hint=f"promote a version: hallmark promote {channel} --why WHY",
        )
    earlier = versions[versions.index(now) + 1 :]
    for item in earlier:
        if item.was_released and item.state != "withdrawn":
            return item
    raise HallmarkError(
        f"{channel} has no release before {now.version} to go back to",
        details=[f"{item.version} is {item.state}" for item in earlier],
        hint=f"take it back all the same: hallmark withdraw {channel} --version {now.version} --why WHY",
    )


def _change(
    workspace: Workspace,
    artefacts: Artefacts,
    release: Release,
    state: State,
    actor: Actor,
    *,
    rollback_to: str | None,
) -> tuple[Release, bool]:
    moves = release.state != state
    if moves and release.state not in _FROM[state]:
        raise HallmarkError(
            f"{release.recipe} {release.version} is {release.state} and can't become {state}",
            where=artefacts.release,
            hint=_INSTEAD[release.state],
        )
    if moves and state == "released":
        _must_be_releasable(artefacts, release, actor)
    if state == "released":
        _must_be_somewhere(release, artefacts)
    expires = release.history[-1].when + GRACE if not moves else actor.now + GRACE
    until = expires.date() if state == "withdrawn" else None
    locations = tuple(
        _mark(workspace, artefacts, release, place, state, until, now=actor.now)
        for place in release.locations
    )
    galleries = tuple(_mark_in_gallery(offered, release, state, until) for offered in release.galleries)
    told = {"locations": locations, "galleries": tuple(item for item in galleries if item is not None)}
    after = release.model_copy(update=told)
    if moves:
        made = Transition(state=state, when=actor.now, who=actor.who, why=actor.why, rollback=rollback_to)
        after = after.model_copy(update={"history": (*release.history, made)})
    if after != release:
        after.write(artefacts.release)
    word = "is now" if moves else "is"
    log.info(f"{release.recipe} {release.version} {word} {state}")
    return after, moves


def _must_be_releasable(artefacts: Artefacts, release: Release, actor: Actor) -> None:
    """The certificate holds today, for these bytes and today's policies; so does the licence."""
    proof = read(artefacts.certificate, actor.public_key, now=actor.now)
    if proof.image_sha256 != release.image.sha256:
        raise HallmarkError(
            "the certificate is of another image than the release",
            where=artefacts.certificate,
            hint=f"certify and publish again: hallmark publish {release.recipe} --version {release.version}",
        )
    gate.must_satisfy(proof, proof.policies, where=artefacts.certificate)
    for system in (release.distribution_id, proof.predicate.subject_os.partition(" ")[0]):
        licence.guard(
            system,
            name=release.distribution,
            licence=release.licence,
            visibility=release.visibility,
            where=str(artefacts.release),
        )


def _must_be_somewhere(release: Release, artefacts: Artefacts) -> None:
    if all(place.deleted is not None for place in release.locations):
        raise HallmarkError(
            f"no destination has {release.recipe} {release.version} any more",
            where=artefacts.release,
            why="consumers would be sent to an image that isn't there",
            hint=f"publish it again: hallmark publish {release.recipe} --version {release.version}",
            details=[f"deleted on {place.deleted:%Y-%m-%d}: {place.url}" for place in release.locations],
        )


def _mark(
    workspace: Workspace,
    artefacts: Artefacts,
    release: Release,
    place: Location,
    state: State,
    expires: date | None,
    *,
    now: datetime,
) -> Location:
    where = parse(place.destination)
    if isinstance(where, RegistryDestination):
        _follow(workspace, release, where, place, state)
        return place
    if isinstance(where, FileDestination) or place.blob is None or place.deleted is not None:
        if state == "withdrawn" and place.deleted is None:
            log.warn(f"{place.url} stays where it is: take it out of the library")
        return place
    with service_of(where, workspace) as service:
        container = service.get_container_client(where.container)
        blob = container.get_blob_client(place.blob)
        files = [Placed(release.image, blob, place.etag, artefacts.image)]
        for output in release.outputs:
            if output.format in place.etags:
                blob, here = container.get_blob_client(output.name), artefacts.output(output.format)
                files.append(Placed(output, blob, place.etags[output.format], here))
        etags = mark(files, release, state, expires=expires)
    image = etags.pop(release.image.format)
    gone = {kind for kind, etag in etags.items() if etag is None}
    changed = {
        "outputs": {kind: url for kind, url in place.outputs.items() if kind not in gone},
        "etags": {kind: etag for kind, etag in {**place.etags, **etags}.items() if etag is not None},
        **({"etag": image} if image is not None else {"deleted": now}),
    }
    return place.model_copy(update=changed)


def _follow(
    workspace: Workspace, release: Release, where: RegistryDestination, place: Location, state: State
) -> None:
    """The registry's tag of the major release names what the channel's current release will be."""
    released = [release] if state == "released" else []
    for _, item in of_recipe(workspace, release.recipe):
        there = item.location(place.destination)
        if (
            item.version != release.version
            and item.state == "released"
            and there is not None
            and there.deleted is None
        ):
            released.append(item)
    major = release.release.partition(".")[0]
    if released:
        newest = max(released, key=lambda item: parse_version(item.version))
        registry.point(where, release.recipe, tag=major, digest=str(newest.image.digest))
    if state == "withdrawn":
        log.warn(f"{place.url} stays in the registry: delete it there, if nobody may pull it any more")


def _mark_in_gallery(
    offered: GalleryVersion, release: Release, state: State, expires: date | None
) -> GalleryVersion | None:
    """Only what is released may be a gallery's latest version. None for one that is withdrawn, and gone."""
    # Not at the top: most publishing never talks to Azure Resource Manager, and its library is slow to load.
    from builder.gallery import exclude, managed, parse_gallery
    from builder.gallery.arm import connect

    address = parse_gallery(offered.gallery)
    with connect(address.subscription) as client:
        marks = {tags.CHANNEL: state, tags.EXPIRES: expires.isoformat() if expires else None}
        there = exclude(
            client,
            address,
            offered.definition,
            release.version,
            sha256=release.image.sha256,
            excluded=state != "released",
            withdrawn=state == "withdrawn",
            tags=marks,
        )
        images = tuple(
            image
            for image in offered.managed_images
            if managed.mark(client, image, withdrawn=state == "withdrawn", tags=marks)
        )
    return offered.model_copy(update={"managed_images": images}) if there else None
