"""The .NET container: made of the sample distribution, read by others, run by podman, certified, published.

podman runs without network and without control groups: a machine that builds images need not offer either.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.image import container, outputs
from builder.pipeline import Pipeline
from builder.publish.release import Release
from builder.recipe import Plan
from builder.release import release
from builder.run import run
from builder.sampledistro import SampleRepository
from builder.vm.acceleration import probe
from builder.vm.machine import boot
from builder.workspace import Artefacts, Workspace, digest_file
from certification import testkit
from tests import oci_registry

pytestmark = [pytest.mark.system, pytest.mark.slow]

RECIPE = "dotnet-sample-9"
#: What OpenShift gives a project: a user that the image doesn't know, in group 0.
ARBITRARY = "1000680000:0"
NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]
#: What every run here needs, and no more than a cluster gives: no network, no privileges to gain.
ALONE = (
    *("--cgroups=disabled", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
)
RUN = ("run", "--rm", "--read-only", *ALONE)
Podman = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def image(workspace: Workspace, sample_repository: SampleRepository) -> Artefacts:
    return Pipeline(workspace, RECIPE).build()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A managed program as ``dotnet publish`` leaves it."""
    kit = testkit.build(tmp_path_factory.mktemp("kit"))
    directory = tmp_path_factory.mktemp("publish")
    shutil.copyfile(kit.assembly, directory / "Probe.dll")
    (directory / "Probe.runtimeconfig.json").write_text(testkit.runtime_config(version="3.1.23"))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def podman(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with a store of its own."""
    # The names of its sockets must stay short, and layers don't belong into a small memory filesystem.
    store, state = workspace.work / "podman", tmp_path_factory.mktemp("p")
    # A file system of our own in the place of control groups: old and mixed hierarchies stop crun.
    alone = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /sys/fs/cgroup && exec "$@"', "sh")
    words = (*alone, "podman", "--root", str(store), "--runroot", str(state), "--storage-driver", "vfs")

    def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*words, *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    yield call
    call("system", "reset", "--force", check=False)
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="module")
def loaded(podman: Podman, image: Artefacts) -> str:
    """The image in podman's store."""
    return podman("pull", "--quiet", f"oci-archive:{image.output('oci')}").stdout.split()[-1]


def test_other_readers_see_what_the_recipe_says(image: Artefacts, tmp_path: Path) -> None:
    archive = f"oci-archive:{image.output('oci')}"
    seen = json.loads(run(("skopeo", "inspect", archive)).stdout)
    [record] = outputs.load(image.outputs)
    assert seen["Digest"] == f"sha256:{record.digest}"
    assert (seen["Architecture"], seen["Os"], len(seen["Layers"])) == ("amd64", "linux", 1)
    config = json.loads(run(("skopeo", "inspect", "--config", archive)).stdout)["config"]
    plan = Plan.model_validate_json(image.plan.read_bytes())
    assert plan.container is not None
    assert config["User"] == "1001:0"
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert dict(word.split("=", 1) for word in config["Env"]) == plan.container.environment
    assert plan.container.labels.items() <= config["Labels"].items()
    assert config["Labels"]["version"] + "." + config["Labels"]["release"] == plan.version
    # A copy to another store keeps the digest: nothing is converted on the way.
    run(
        (
            "skopeo",
            "copy",
            "--insecure-policy",
            "--preserve-digests",
            archive,
            f"oci:{tmp_path / 'layout'}:it",
        )
    )
    copied = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert copied["manifests"][0]["digest"] == f"sha256:{record.digest}"
    assert record.sha256 == digest_file(image.output("oci"))


def test_the_image_holds_no_machine(image: Artefacts) -> None:
    names = {item["name"] for item in json.loads(image.packages.read_text())}
    assert {"dotnet-runtime-3.1", "glibc", "bash", "openssl-libs"} <= names
    assert not {"kernel", "kernel-core", "systemd", "dracut-core", "grub2-pc", "dnf"} & names
    assert len(json.loads(image.sbom.read_text())["components"]) == len(names)
    assert container.read(image.output("oci")).unpacked < 400 << 20


@pytest.mark.parametrize("user", [None, ARBITRARY, "0:0"], ids=["its own", "arbitrary", "root"])
def test_a_program_computes_as_any_user(user: str | None, podman: Podman, loaded: str, program: Path) -> None:
    who = () if user is None else ("--user", user)
    words = ("/usr/libexec/s2i/run", *map(str, NUMBERS))
    done = podman(*RUN, *who, "-v", f"{program}:/opt/app-root/app:ro", loaded, *words)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert testkit.expected_output(NUMBERS).items() <= seen.items(), done.stdout + done.stderr


def test_source_to_image_installs_a_program_that_runs(podman: Podman, loaded: str, program: Path) -> None:
    """As s2i and OpenShift's binary builds do: assemble as any user, keep that, run it as another."""
    build = ("run", *ALONE, "--name", "assembled")
    source = ("-v", f"{program}:/tmp/src:ro", loaded, "/usr/libexec/s2i/assemble")
    done = podman(*build, "--user", ARBITRARY, *source)
    assert "Installing" in done.stdout
    podman("commit", "--quiet", "assembled", "localhost/assembled")
    podman("rm", "assembled")
    again = podman(*RUN, "--user", "1000690000:0", "localhost/assembled", "/usr/libexec/s2i/run", "7", "2")
    assert testkit.expected_output([7, 2])["sum-of-squares"] in again.stdout


def test_it_says_what_is_missing(podman: Podman, loaded: str, tmp_path: Path) -> None:
    done = podman(*RUN, loaded, check=False)
    assert done.returncode == 1
    assert "0 programs in /opt/app-root/app" in done.stderr and "s2i build" in done.stderr
    tmp_path.chmod(0o755)
    empty = podman(*RUN, "-v", f"{tmp_path}:/tmp/src:ro", loaded, "/usr/libexec/s2i/assemble", check=False)
    assert empty.returncode == 1 and "no published program" in empty.stderr


def test_two_builds_have_one_digest(image: Artefacts, workspace: Workspace, tmp_path: Path) -> None:
    again = Workspace.default(build=tmp_path / "build", cache=workspace.cache)
    other = Pipeline(again, RECIPE, wanted_version=image.root.name).build()
    assert outputs.load(other.outputs) == outputs.load(image.outputs)


def test_it_is_certified_published_and_in_the_catalog(
    image: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    destination = (tmp_path / "library").as_uri()
    release(workspace, RECIPE, version=image.root.name, destination=destination, mirrors=None, reports=[])
    [record] = outputs.load(image.outputs)
    [published] = (tmp_path / "library").iterdir()
    assert published.name == f"{RECIPE}-{image.root.name.replace('.', '-')}.oci.tar"
    assert digest_file(published) == record.sha256
    catalog = json.loads((workspace.catalog / "catalog.json").read_text())
    [entry] = [item for item in catalog["releases"] if item["release"]["image"]["name"] == published.name]
    assert entry["release"]["image"]["digest"] == record.digest
    assert {"certificate", "sbom", "report", "packages"} <= set(entry["files"])
    page = (workspace.catalog / RECIPE / image.root.name / "index.html").read_text()
    assert f"sha256:{record.digest}" in page and "podman run" in page


def test_podman_pulls_it_from_a_registry_and_runs_it(
    image: Artefacts, workspace: Workspace, podman: Podman, program: Path, tmp_path: Path
) -> None:
    with oci_registry.serve(tmp_path) as registry:
        destination = registry.destination()
        release(workspace, RECIPE, version=image.root.name, destination=destination, mirrors=None, reports=[])
        found = Release.read(image.release).location(destination)
        assert found is not None
        pulled = podman("pull", "--quiet", "--tls-verify=false", found.url).stdout.split()[-1]
    [record] = outputs.load(image.outputs)
    [known] = json.loads(podman("image", "inspect", pulled).stdout)
    assert known["Digest"] == f"sha256:{record.digest}"
    done = podman(*RUN, "-v", f"{program}:/opt/app-root/app:ro", pulled, "/usr/libexec/s2i/run", "7", "2")
    assert testkit.expected_output([7, 2])["sum-of-squares"] in done.stdout


@pytest.mark.parametrize("host", ["sample-9", "sample-atomic-9"])
def test_a_booted_host_runs_it(
    host: str, image: Artefacts, program: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """The container on a machine of the same making, with that machine's own podman, confined by SELinux."""
    with boot(
        Pipeline(workspace, host).build().image,
        firmware="bios",
        work=tmp_path,
        logs=tmp_path,
        acceleration=probe(cache=workspace.cache),
    ) as machine:
        copy = ("scp", "-q", "-r", "-F", machine.ssh_config, image.output("oci"), program, "guest:")
        run(copy, timeout=300)
        pull = ["sudo", "podman", "pull", "-q", "oci-archive:image.oci.tar"]
        pulled = machine.run(pull, timeout=300, check=True).stdout.split()[-1]
        [record] = outputs.load(image.outputs)
        known = machine.run(["sudo", "podman", "image", "inspect", pulled], check=True)
        assert json.loads(known.stdout)[0]["Digest"] == f"sha256:{record.digest}"

        confined = "sudo podman run --rm --cap-drop=ALL --security-opt=no-new-privileges"
        done = machine.run(
            f"{confined} --network=none --user {ARBITRARY} -v $PWD/{program.name}:/opt/app-root/app:ro,Z"
            f" {pulled} /usr/libexec/s2i/run {' '.join(map(str, NUMBERS))}",
            timeout=300,
        )
        seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert testkit.expected_output(NUMBERS).items() <= seen.items(), done.stdout + done.stderr

        assert machine.run("/usr/sbin/getenforce", check=True).stdout == "Enforcing\n"
        label = machine.run(f"{confined} {pulled} cat /proc/self/attr/current", timeout=300, check=True)
        assert ":container_t:" in label.stdout  # and it had a network
        forbidden = machine.run(f"{confined} -v /etc:/host:ro {pulled} cat /host/passwd", timeout=300)
        assert forbidden.returncode != 0 and "Permission denied" in forbidden.stderr
