"""Images that a user's tests build and run: `cluster.load_image`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.images.store.store import ImageStore
from tests.images.making import programs_root
from tests.integration.network.conftest import why_not_private
from tests.integration.testing.test_plugin import Project, project

__all__ = ["project"]

_TESTS = """
from pathlib import Path

from hatchway.testing.images import from_directory

HERE = Path(__file__).parent


def test_an_image_of_a_directory_runs(cluster, namespace):
    source = from_directory(HERE / "app", base=HERE / "root", place="/app", cmd=["cat", "/app/greeting"])
    image = cluster.load_image(source)
    (HERE / "name").write_text(image)
    namespace.apply({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]},
    })
    namespace.wait("pod/a", "jsonpath={.status.phase}=Succeeded")
    assert namespace.logs("a") == "hello from an image\\n"
"""


def test_an_image_of_a_directory_runs_and_goes_with_the_cluster(project: Project) -> None:
    if why_not_private():
        pytest.skip(why_not_private())
    programs_root(project.path / "root", "cat")
    (project.path / "app").mkdir()
    project.save("app/greeting", "hello from an image\n")
    project.save("test_images.py", _TESTS)
    state = project.path / "state"
    output = project.run(HATCHWAY_STATE_DIR=str(state))
    assert "1 passed" in output, output
    assert (project.path / "name").read_text().startswith("hatchway.test/app:")
    store = ImageStore(state / ".images")
    assert store.images() == []
    assert not list(Path(store.path / "blobs/sha256").iterdir())
