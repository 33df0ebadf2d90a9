"""One release as one image in a container registry, with its bill of materials beside it.

skopeo talks to the registry. The image goes there by its digest, is read back, gets its SBOM, and only then
the tag of its version, which never moves again. A second tag, the major release's, follows the channel.

The SBOM is an artifact whose ``subject`` is the image, so that registries list it as a referrer ("OCI
Distribution Specification" 1.1), under the tag by which cosign finds it in all others
(``sha256-<digest>.sbom``, cosign's SBOM_SPEC).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.image.oci import INDEX, MANIFEST
from builder.publish.destination import RegistryDestination
from builder.publish.gate import Certified
from builder.publish.release import Readback
from builder.publish.upload import Transfer
from builder.run import register_secret, run
from builder.secrets import SecretReference, in_memory, resolve
from builder.workspace import digest_file

__all__ = ["CREDENTIALS", "SBOM_TYPE", "deliver", "point", "pull_address"]

#: The environment variable that says where ``USER:PASSWORD`` is: ``env:NAME`` or ``file:/PATH``.
CREDENTIALS = "HALLMARK_REGISTRY_CREDENTIALS"
SBOM_TYPE = "application/vnd.cyclonedx+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
#: What the specification's errors MANIFEST_UNKNOWN and NAME_UNKNOWN look like in skopeo's words.
_ABSENT = re.compile(r"(manifest|name) unknown|404 \(Not Found\)|not found", re.I)
_DENIED = re.compile(r"unauthorized|denied|authentication required|invalid username|code 40[13]", re.I)


def pull_address(place: RegistryDestination, recipe: str, digest: str) -> str:
    """What an engine pulls: the image by its digest (SHA-256, hexadecimal), as podman and skopeo write it."""
    return f"docker://{place.repository(recipe)}@sha256:{digest}"


def deliver(
    certified: Certified,
    place: RegistryDestination,
    *,
    recipe: str,
    version: str,
    sbom: Path,
    readback: Readback,
    work: Path,
) -> Transfer:
    """Push the image with its SBOM, read both back, and tag the image with the version.

    What is there already is not sent again, and read back all the same.

    :param sbom: the CycloneDX document of the build.
    :param readback: whether every layer is read back, or the manifest only.
    :param work: a directory for temporary files, made and removed.
    :raises HallmarkError: the version has another image already, the SBOM isn't the one of the build, the
        registry can't be reached or refuses, or what it gives back differs.
    """
    assert certified.digest is not None, "a container image has a manifest"
    image = f"{place.repository(recipe)}@sha256:{certified.digest}"
    tagged = f"{place.repository(recipe)}:{version}"
    _must_be_the_build_s(certified, sbom)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with _connect(place) as client:
            there = client.digest(tagged)
            _must_not_be_another(there, certified.digest, tagged)
            if there is None:
                with log.step("push the image"):
                    client.push(f"oci-archive:{certified.image}", image)
                certified.must_be_unchanged()
            if readback == "full":
                with log.step("read the image back"):
                    client.pull(image, work / "back")
                    _compare(work / "back", certified.digest, image)
            with log.step("attach the bill of materials"):
                _attach(client, place.repository(recipe), certified.digest, sbom, work / "sbom")
            if there is None:
                client.push(f"docker://{image}", tagged)
                if client.digest(tagged) != certified.digest:
                    raise HallmarkError(
                        "the registry gives another image under the version's tag than it got",
                        where=tagged,
                        hint="somebody else pushed at the same time, or the registry changes manifests",
                    )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    size = certified.size
    return Transfer(size, 0, 0, 0) if there is None else Transfer(0, size, 0, 0)


def point(place: RegistryDestination, recipe: str, *, tag: str, digest: str) -> None:
    """Let a tag of the channel name this image, which is in the registry already.

    :raises HallmarkError: it isn't, or the registry can't be reached or refuses.
    """
    image = f"{place.repository(recipe)}@sha256:{digest}"
    tagged = f"{place.repository(recipe)}:{tag}"
    with _connect(place) as client:
        if client.digest(tagged) != digest:
            client.push(f"docker://{image}", tagged)
            log.info(f"{tagged} is sha256:{digest[:12]}… now")


@dataclass(frozen=True, slots=True)
class _Client:
    """skopeo, told where credentials are and whether TLS is asked for."""

    place: RegistryDestination
    options: tuple[str, ...]

    def manifest(self, reference: str) -> bytes | None:
        """The manifest behind a tag or digest; None: there is none."""
        try:
            text = self._run("inspect", *self._tls(""), "--raw", f"docker://{reference}")
        except CommandFailed as error:
            if _ABSENT.search(error.output) and not _DENIED.search(error.output):
                return None
            raise self._explained(error, reference) from error
        return text.encode()

    def digest(self, reference: str) -> str | None:
        """The digest (SHA-256, hexadecimal) of that manifest."""
        data = self.manifest(reference)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def push(self, source: str, reference: str) -> None:
        """Copy an image (``docker://…`` of the same registry, or a local one) to a tag or digest."""
        both = self._tls("src-") if source.startswith("docker:") else ()
        try:
            self._copy(*both, *self._tls("dest-"), source, f"docker://{reference}")
        except CommandFailed as error:
            raise self._explained(error, reference) from error

    def pull(self, reference: str, directory: Path) -> None:
        """Copy an image into a directory: its manifest, and its blobs by their digests."""
        try:
            self._copy(*self._tls("src-"), f"docker://{reference}", f"dir:{directory}")
        except CommandFailed as error:
            raise self._explained(error, reference) from error

    def _copy(self, *words: str) -> None:
        self._run("copy", "--quiet", "--preserve-digests", *words)

    def _tls(self, side: str) -> tuple[str, ...]:
        return (f"--{side}tls-verify=false",) if self.place.loopback else ()

    def _run(self, verb: str, *words: str) -> str:
        # No policy of this host about signatures: what is read is compared with digests of our own.
        return run(("skopeo", "--insecure-policy", verb, *self.options, *words)).stdout

    def _explained(self, error: CommandFailed, reference: str) -> HallmarkError:
        hint = "is it up, and the address right? its certificate must be known to this host"
        what = "the registry can't be used"
        if _DENIED.search(error.output):
            what = "the registry refuses"
            hint = (
                f"log in (skopeo login {self.place.host}), or name the credentials: "
                f"{CREDENTIALS}=file:/PATH with USER:PASSWORD in it"
            )
        return HallmarkError(
            what,
            where=reference,
            why="nothing was published under the version",
            hint=hint,
            details=error.output.splitlines()[-3:],
        )


@contextmanager
def _connect(place: RegistryDestination) -> Iterator[_Client]:
    """Use the credentials that are named, or else those that ``skopeo login`` and its kin have left."""
    text = os.environ.get(CREDENTIALS)
    if not text:
        yield _Client(place, ())
        return
    try:
        reference = SecretReference(text, CREDENTIALS)
    except ValueError:
        raise HallmarkError(
            f"{CREDENTIALS} doesn't say where the credentials are",
            why="it is a reference and never holds the secret itself",
            hint="set it to env:NAME or file:/PATH; what is there is USER:PASSWORD",
        ) from None
    value = resolve(reference, f"the credentials for {place.host}").strip()
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise HallmarkError(
            f"the credentials for {place.host} are not USER:PASSWORD", where=text, hint="one line, one colon"
        )
    encoded = base64.b64encode(value.encode()).decode()
    for secret in (password, encoded):
        register_secret(secret)
    with in_memory(json.dumps({"auths": {place.host: {"auth": encoded}}})) as path:
        yield _Client(place, ("--authfile", path))


def _attach(client: _Client, repository: str, digest: str, sbom: Path, work: Path) -> None:
    target = f"{repository}:sha256-{digest}.sbom"
    subject = client.manifest(f"{repository}@sha256:{digest}")
    assert subject is not None, "the image was pushed before"
    named = {"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": len(subject)}
    made = _artifact(work, sbom, subject=named)
    there = client.digest(target)
    if there not in (None, made):
        raise HallmarkError(
            "another bill of materials is attached to this image",
            where=target,
            why="consumers would read of other packages than the build put in",
            hint="find out who attached it; delete that tag in the registry, then run the same command again",
        )
    if there is None:
        client.push(f"oci:{work}", target)
    client.pull(target, work / "back")
    _compare(work / "back", made, target)


def _artifact(directory: Path, sbom: Path, *, subject: Mapping[str, object]) -> str:
    """An OCI layout that holds the SBOM as an artifact; the digest of its manifest."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(kind: str, data: bytes) -> dict[str, object]:
        sha256 = hashlib.sha256(data).hexdigest()
        (blobs / sha256).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SBOM_TYPE,
        "config": put(_EMPTY_TYPE, b"{}"),
        "layers": [put(SBOM_TYPE, sbom.read_bytes())],
        "subject": dict(subject),
        "annotations": {"org.opencontainers.image.title": sbom.name},
    }
    entry = put(MANIFEST, json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode())
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"]).removeprefix("sha256:")


def _must_not_be_another(there: str | None, digest: str, tagged: str) -> None:
    if there not in (None, digest):
        raise HallmarkError(
            "this version is published already, as another image",
            where=tagged,
            why="a published version never changes: consumers pin it, and its certificate names its digest",
            hint="build a new version (the last number counts up within a day)",
            details=[f"published: sha256:{there}", f"this image: sha256:{digest}"],
        )


def _must_be_the_build_s(certified: Certified, sbom: Path) -> None:
    """The provenance, which is signed with the certificate, names the SBOM's digest."""
    if not sbom.is_file():
        raise HallmarkError("there is no bill of materials", where=sbom, hint="build and certify again")
    provenance = certified.certificate.provenance
    for item in provenance.run_details.byproducts if provenance is not None else ():
        if item.name == sbom.name and item.digest.get("sha256") != digest_file(sbom):
            raise HallmarkError(
                "the bill of materials isn't the one of the build",
                where=sbom,
                why="the certificate's provenance names another digest",
                hint="build and certify again",
            )


def _compare(directory: Path, digest: str, reference: str) -> None:
    """Every file is what its name says; the manifest is the image's."""
    wrong = [
        path.name
        for path in sorted(directory.iterdir())
        if re.fullmatch(r"[0-9a-f]{64}", path.name) and digest_file(path) != path.name
    ]
    if wrong or digest_file(directory / "manifest.json") != digest:
        raise HallmarkError(
            "the registry gives back other bytes than it got",
            where=reference,
            why="what engines would pull is not what was certified",
            hint="the registry stores wrong bytes or changes manifests; nothing was published",
            details=[f"wrong: sha256:{name}" for name in wrong],
        )
