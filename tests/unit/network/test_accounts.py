"""Look-up of USER or runAsUser in an image's /etc/passwd and /etc/group (cases of moby/sys/user, user_test.go)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.network import accounts
from hatchway.cluster.network.accounts import Account, AccountError, look_up_account

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
# comment:x:9:9::/:
  adm:x:42:84:a user:/var/adm:/bin/false
123:x:456:789::/number:
worker:x:42:1::/second:
nothing
nul\0:x:5:5::/:
"""
GROUP = b"""\
root:x:0:root
adm:x:43:
grp:x:1234:root,adm,user1
456:x:999:
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "passwd").write_bytes(PASSWD)
    (tmp_path / "group").write_bytes(GROUP)
    real = os.open

    def opened(path: str, flags: int) -> int:
        return real(str(tmp_path / os.path.basename(path)), flags)

    monkeypatch.setattr(accounts.os, "open", opened)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", Account(0, 0, (0, 1234), "/root")),
        ("root", Account(0, 0, (0, 1234), "/root")),
        ("adm", Account(42, 84, (84, 1234), "/var/adm")),
        # If several entries have a number, the first counts.
        ("42", Account(42, 84, (84, 1234), "/var/adm")),
        ("adm:456", Account(42, 456, (456, 1234), "/var/adm")),
        ("adm:grp", Account(42, 1234, (1234,), "/var/adm")),
        ("7000:grp", Account(7000, 1234, (1234,), "")),
        ("7000:8000", Account(7000, 8000, (8000,), "")),
        # A number is never looked up as a name.
        ("123", Account(123, 0, (0,), "")),
        (":grp", Account(0, 1234, (1234, 0), "/root")),
    ],
)
def test_accounts_are_looked_up_as_in_container_engines(files: Path, spec: str, expected: Account) -> None:
    assert look_up_account(spec, (), merge=True) == expected


def test_further_groups(files: Path) -> None:
    assert look_up_account("adm", (84, 5, 5), merge=True).groups == (84, 1234, 5)
    assert look_up_account("adm", (5,), merge=False).groups == (84, 5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("nul", "unable to find user nul: no matching entries in passwd file"),
        ("adm:none", "unable to find group none: no matching entries in group file"),
        ("-5", "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", "uids and gids must be in range 0-2147483647"),
        ("99999999999999999999", "unable to find user 99999999999999999999: no matching entries in passwd file"),
    ],
)
def test_errors_have_the_texts_of_container_engines(files: Path, spec: str, message: str) -> None:
    with pytest.raises(AccountError, match="^" + message.replace("(", r"\(") + "$"):
        look_up_account(spec, (), merge=True)


def test_without_files_root_and_any_number_are_valid(files: Path) -> None:
    (files / "passwd").unlink()
    (files / "group").unlink()
    assert look_up_account("", (), merge=True) == Account(0, 0, (0,), "")
    assert look_up_account("5:6", (7,), merge=True) == Account(5, 6, (6, 7), "")
    with pytest.raises(AccountError):
        look_up_account("root", (), merge=True)


def test_only_the_beginning_of_a_huge_file_is_read(files: Path) -> None:
    with open(files / "passwd", "r+b") as file:
        file.seek(1 << 40)
        file.write(b"\nlast:x:9:9::/:\n")
    assert look_up_account("adm", (), merge=True).uid == 42
    with pytest.raises(AccountError):
        look_up_account("last", (), merge=True)


@given(st.binary(max_size=200), st.binary(max_size=200), st.text("0123456789:-+abr", max_size=12))
def test_any_files_give_an_account_or_an_error(passwd: bytes, group: bytes, spec: str) -> None:
    def lines(path: str) -> list[list[str]]:
        content = passwd if path.endswith("passwd") else group
        return [line.decode("latin-1").split(":") for line in content.split(b"\n")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_lines", lines)
        try:
            found = look_up_account(spec, (), merge=True)
        except AccountError:
            return
    assert 0 <= found.uid < 1 << 31 and all(0 <= gid < 1 << 31 for gid in (found.gid, *found.groups[:1]))
