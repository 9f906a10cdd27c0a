"""Files, sections, commands and options that the documents name exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hatchway.cli.app import app
from hatchway.cli.commandgroup import leaf_commands
from hatchway.cli.image import image
from hatchway.cluster.node.hostprograms import HOST, SHIPPED

_ROOT = Path(__file__).parents[2]
_DOCUMENTS = [_ROOT / "README.md", _ROOT / "CHANGELOG.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_COMMAND = re.compile(r"\bhatchway ([a-z]+)((?: [^`|;&()\n#]*)?)")
# Options of other programs that the documents name without the program.
_OTHERS_OPTIONS = {
    "--cpu",
    "--cpu-percent",
    "--previous",
    "--server-side",
    "--force-conflicts",
    "--show-managed-fields",
    "--field-manager",
    "--delete",
    "--cacert",
    "--all-apps",
    "--allowed-unsafe-sysctls",
}
# Messages of other programs in the tables of symptoms.
_OTHERS_MESSAGES = re.compile(
    r"Name or service not known|\[Errno -2\]|unable to resolve host address|java\.net|getaddrinfo|command not found"
    r"|connection to the server|doesn't have a resource type|EXTERNAL-IP|<pending>"
    r"|curl: |-certificate|malformed HTTP|EOF|ws://|SSL"
    r"|Operation not permitted|Read-only file system|Forbidden"
)


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors_of(path: Path) -> set[str]:
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCED.sub("", path.read_text())):
        anchor = anchor_of(heading)
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the command and the options of each `hatchway ...` in code: blocks, and spans between backquotes."""
    blocks = [match[0].replace("\\\n", " ") for match in _FENCED.finditer(text)]
    spans = re.findall(r"`([^`]+)`", _FENCED.sub("", text).replace("\n", " "))
    for code in (*blocks, *spans):
        for name, rest in _COMMAND.findall(code):
            try:
                words = shlex.split(rest)
            except ValueError:
                words = rest.split()
            # The words after it belong to another command.
            for stop in ("--", "--exec"):
                words = words[: words.index(stop) + 1] if stop in words else words
            command = app.get_command(click.Context(app), name)
            if isinstance(command, click.Group) and words and not words[0].startswith("-"):
                name = f"{name} {words[0]}"
            options = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
            # `-it` stands for two options.
            yield name, [one for option in options for one in _apart(option)]


def _apart(option: str) -> list[str]:
    return [f"-{letter}" for letter in option[1:]] if re.fullmatch(r"-[a-zA-Z]{2,}", option) else [option]


def options_of(command: click.Command) -> set[str]:
    context = click.Context(command)
    return {name for found in command.get_params(context) for name in (*found.opts, *found.secondary_opts)}


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_links_have_a_target(document: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCED.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    known_commands = {
        **{name: context.command for name, context in leaf_commands(app, click.Context(app))},
        "image": image,
    }
    wrong = []
    for name, options in commands_in(document.read_text()):
        command = known_commands.get(name)
        if command is None:
            wrong.append(f"hatchway {name}")
            continue
        known = options_of(command)
        wrong += [f"hatchway {name} {option}" for option in options if option not in known]
    assert not wrong


def _stays(command: str) -> bool:
    """Return True if a command stays in the foreground."""
    words = command.partition("#")[0].split()
    detached = {"-d", "--detach", "--dry-run", "--exec", "--list", "--print"} & set(words)
    return words[:2] in (["hatchway", "up"], ["hatchway", "proxy"], ["hatchway", "socks"]) and not detached


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_a_command_that_stays_in_the_foreground_is_the_last_of_its_block(document: Path) -> None:
    wrong = []
    for block in re.findall(r"^```(?:console|sh)?\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
        commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        wrong += [command for command in commands[:-1] if _stays(command)]
    assert not wrong


def test_every_document_is_reachable_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall((_ROOT / "README.md").read_text())}
    assert {str(path.relative_to(_ROOT)) for path in _DOCUMENTS} - {"README.md"} <= linked


def test_every_command_is_named_in_the_readme() -> None:
    named = {name for name, _ in commands_in((_ROOT / "README.md").read_text())}
    named |= {name.partition(" ")[0] for name in named}
    assert set(app.list_commands(click.Context(app))) <= named | {"version"}


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_options_named_without_a_command_exist(document: Path, pytestconfig: pytest.Config) -> None:
    known = {name for command in _commands() for name in options_of(command)}
    # Options of the pytest plugin and of pytest-xdist.
    known |= {f"--{name.replace('_', '-')}" for name in vars(pytestconfig.option) if name.startswith("hatchway_")}
    known |= {"--dist"}
    text = _FENCED.sub("", document.read_text()).replace("\n", " ")
    named = {span.split()[0].partition("=")[0] for span in re.findall(r"`(--[a-z][^`]*)`", text)}
    assert not {name.partition("/")[0] for name in named} - known - _OTHERS_OPTIONS


def _commands() -> list[click.Command]:
    return [context.command for _, context in leaf_commands(app, click.Context(app))]


def test_messages_of_the_troubleshooting_page_are_in_the_source() -> None:
    sources = [path.read_text() for path in (_ROOT / "src").rglob("*.py")]
    sources += [(_ROOT / "scripts" / name).read_text() for name in ("setup", "up")]
    # Join adjacent string literals, which are one text.
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    unknown = []
    for line in (_ROOT / "docs/troubleshooting.md").read_text().splitlines():
        if not (row := re.match(r"\| (.+?) \| ", line)) or row[1] == "you see":
            continue
        for message in re.findall(r"`([^`]+)`", row[1]):
            # Names, numbers and texts of the system are inserted into a message. So search for one piece of its fixed
            # text.
            pieces = re.split(r"\.\.\.|: |\d{4,5}|[\"'\\]|\(sysctl.*", message)
            known = any(piece.strip() in source for piece in pieces if len(piece.strip()) > 8)
            if not known and not _OTHERS_MESSAGES.search(message):
                unknown.append(message)
    assert not unknown, unknown


def test_the_readme_names_the_shipped_images() -> None:
    text = (_ROOT / "README.md").read_text()
    assert set(re.findall(r"`(hatchway/[a-z-]+)`", text)) == {*SHIPPED, HOST}


def test_the_readme_and_the_list_of_types_agree() -> None:
    sentence = "Every type that Kubernetes 1.36 serves by default is served"
    assert sentence in (_ROOT / "README.md").read_text()
    # `scripts/update-coverage` makes the list from the registry, and writes this sentence only if no type is missing.
    assert sentence in (_ROOT / "docs/api-coverage.md").read_text()
