from __future__ import annotations

import re
from pathlib import Path

import pytest

from hatchway.errors import HatchwayError
from hatchway.images.pulling.registries import Registries, RegistryServer, TlsFiles


def load(tmp_path: Path, text: str = "", **options: object) -> Registries:
    file = tmp_path / "registries.toml"
    file.write_text(text)
    return Registries.load(file, environment={}, **options)  # type: ignore[arg-type]


def test_docker_hub(tmp_path: Path) -> None:
    assert load(tmp_path).endpoints("docker.io") == [RegistryServer("docker.io", "registry-1.docker.io")]


@pytest.mark.parametrize("registry", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "127.1.2.3"])
def test_registries_on_this_machine_may_use_plain_http(tmp_path: Path, registry: str) -> None:
    [server] = load(tmp_path).endpoints(registry)
    assert server.schemes == ("https", "http")
    assert not server.verify


@pytest.mark.parametrize("registry", ["ghcr.io", "10.0.0.1:5000", "localhost.example.com"])
def test_other_registries_need_tls(tmp_path: Path, registry: str) -> None:
    [server] = load(tmp_path).endpoints(registry)
    assert server.schemes == ("https",)
    assert server.verify


def test_mirrors_are_tried_first(tmp_path: Path) -> None:
    text = '[registry."docker.io"]\nmirrors = ["https://a.test/hub/", "b.test:5000", "http://c.test"]\n'
    found = load(tmp_path, text, mirrors=["docker.io=http://d.test"]).endpoints("docker.io")
    assert [(one.name, one.prefix, one.schemes, one.mirror_of) for one in found] == [
        ("d.test", "", ("http",), "docker.io"),
        ("a.test", "hub/", ("https",), "docker.io"),
        ("b.test:5000", "", ("https",), "docker.io"),
        ("c.test", "", ("http",), "docker.io"),
        ("docker.io", "", ("https",), ""),
    ]


def test_the_settings_of_a_host_apply_to_it_as_a_mirror(tmp_path: Path) -> None:
    text = '[registry."docker.io"]\nmirrors = ["b.test:5000"]\n[registry."b.test:5000"]\ninsecure = true\n'
    mirror, hub = load(tmp_path, text).endpoints("docker.io")
    assert (mirror.schemes, mirror.verify) == (("https", "http"), False)
    assert hub.verify


def test_options_are_added_to_the_settings_file(tmp_path: Path) -> None:
    text = 'ca-file = "all.pem"\n[registry."a.test"]\nca-file = "/etc/a.pem"\n'
    found = load(tmp_path, text, insecure=["a.test", "b.test"])
    assert found.files("a.test") == TlsFiles(ca="/etc/a.pem")
    assert found.ca == str(tmp_path / "all.pem")
    assert [found.endpoints(host)[0].verify for host in ("a.test", "b.test", "c.test")] == [False, False, True]


def test_a_local_registry_whose_ca_is_named_has_tls(tmp_path: Path) -> None:
    [server] = load(tmp_path, '[registry."localhost:5000"]\nca-file = "ca.pem"\n').endpoints("localhost:5000")
    assert (server.schemes, server.verify) == (("https",), True)


def test_other_names_of_docker_hub(tmp_path: Path) -> None:
    found = load(tmp_path, '[registry."registry-1.docker.io"]\nmirrors = ["a.test"]\n')
    assert len(found.endpoints("docker.io")) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "is not valid TOML"),
        ("x = 1", 'unknown key "x"'),
        ("registry = 1", '"registry" must be tables'),
        ("[registry]\nx = 1", "is not a table"),
        ('[registry."https://a.test"]', "is not a registry"),
        ('[registry."a.test/b"]', "is not a registry"),
        ('[registry."a.test"]\ninsecure = "yes"', "insecure has the wrong type"),
        ('[registry."a.test"]\nmirrors = [1]', "a mirror is not a string"),
        ('[registry."a.test"]\nmirrors = ["ftp://b.test"]', "is not the URL of a mirror"),
        ('[registry."a.test"]\nmirrors = ["https://u:p@b.test"]', "is not the URL of a mirror"),
        ('[registry."a.test"]\nmirrors = ["https://b.test/?x"]', "is not the URL of a mirror"),
        ('[registry."a.test"]\nmirrors = ["https://b.test:0"]', "is not the URL of a mirror"),
        ('[registry."a.test"]\nclient-key-file = "x"', "go together"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(HatchwayError, match=words):
        load(tmp_path, text)


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(HatchwayError, match="--insecure-registry"):
        load(tmp_path, insecure=["http://a.test"])
    with pytest.raises(HatchwayError, match="is not a mirror"):
        load(tmp_path, mirrors=["a.test"])


def test_the_settings_file_that_is_read(tmp_path: Path) -> None:
    """A file that an environment variable names must exist; the default file may be missing."""
    assert Registries.load(environment={"HOME": str(tmp_path)}).endpoints("a.test")[0].verify
    with pytest.raises(HatchwayError, match="there is no file"):
        Registries.load(environment={"HATCHWAY_REGISTRIES": str(tmp_path / "x")})
    (tmp_path / "hatchway").mkdir()
    (tmp_path / "hatchway" / "registries.toml").write_text('[registry."a.test"]\ninsecure = true\n')
    found = Registries.load(environment={"XDG_CONFIG_HOME": str(tmp_path)})
    assert not found.endpoints("a.test")[0].verify


def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "images.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = load(tmp_path, example)
    mirror, with_path, hub = found.endpoints("docker.io")
    assert (mirror.name, with_path.shown, hub.name) == ("mirror.example.com", "registry.local:5000/hub", "docker.io")
    assert (mirror.verify, with_path.verify) == (True, False)
    assert found.may_redirect("registry.local:5000", "127.0.0.1:9000")
    assert not found.may_redirect("docker.io", "127.0.0.1:9000")
    assert found.files("private.example.com").ca == str(tmp_path / "private.pem")
