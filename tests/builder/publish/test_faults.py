"""A fixed sample of the fault points; `./ci/nox -s faults` checks two hundred others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from builder.workspace import Workspace
from tests.fault_proxy import Fault
from tests.faults import KINDS, Bench, Point, bench, points

pytestmark = pytest.mark.system
SEED = 20261122
SAMPLE = list(points(SEED, len(KINDS)))


@pytest.fixture(scope="module")
def stand(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("faults"), workspace) as found:
        yield found


@pytest.mark.parametrize("point", SAMPLE, ids=lambda point: point.fault.kind)
def test_a_fault_leaves_nothing_wrong(stand: Bench, point: Point) -> None:
    print(point)
    stand.check(point)


def test_what_a_run_says_about_a_fault(stand: Bench) -> None:
    """A full disk and a credential that ends midway are named; a damaged or rotten write is mended."""
    for kind, at, result, said in (
        ("expired", 20, "stopped", "doesn't accept the credentials"),
        ("full", 8, "stopped", "the service answered 500"),
        ("flipped", 8, "survived", ""),
        ("rotten", 8, "survived", ""),
    ):
        times = KINDS[kind] if result == "stopped" else 1
        assert stand.check(Point(900, kind, Fault(kind, at, times))) == result
        assert said in stand.said
