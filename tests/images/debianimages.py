"""Images of Debian's programs with the layers, users, start scripts and volumes of the well-known images.

The base layer has a shell, `setpriv` and coreutils, and is shared, as that of `debian:12-slim`. As there, manual pages,
translations and similar files are omitted.
"""

from __future__ import annotations

import functools
import subprocess

from tests.images.making import (
    BuiltImage,
    Entry,
    Layer,
    built,
    debian_root,
    directory,
    entries_below,
    hardlink,
    layer_of,
    opaque,
    symlink,
    whiteout,
)

LIBRARIES = "usr/lib/x86_64-linux-gnu"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SLIM = (
    *(f"usr/share/{name}" for name in ("doc", "man", "locale", "lintian", "info", "bug", "postgresql/15/man", "i18n")),
    "usr/lib/postgresql/15/lib/bitcode",
    f"{LIBRARIES}/gconv",
)
_BASE = (
    "base-passwd dash coreutils util-linux libc-bin libc6 libcrypt1 libselinux1 libpcre2-8-0 libattr1 libacl1 libgmp10"
)
_BASE += " libssl3 libgcc-s1 libcap-ng0 libtinfo6 zlib1g"
_COMPRESSION = "liblzma5 liblz4-1 libzstd1 libsystemd0 libcap2 libgcrypt20 libgpg-error0"
_REDIS = f"redis-server redis-tools libatomic1 libjemalloc2 libstdc++6 liblzf1 liblua5.1-0 lua-cjson lua-bitop {_COMPRESSION}"
_POSTGRES = (
    f"postgresql-15 postgresql-client-15 tzdata libpq5 libicu72 libldap-2.5-0 libsasl2-2 libgssapi-krb5-2 {_COMPRESSION} "
    "libk5crypto3 libkrb5-3 libkrb5support0 libkeyutils1 libcom-err2 libpam0g libaudit1 libreadline8 libstdc++6 libuuid1 "
    "libxml2 libxslt1.1 libgnutls30 libhogweed6 libnettle8 libp11-kit0 libtasn1-6 libunistring2 libidn2-0 libffi8"
)
_PYTHON = "python3-minimal python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libexpat1 libffi8 libuuid1"
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
redis:x:101:101:redis:/data:/bin/sh
postgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh
app:x:1000:1000:app:/srv:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = "root:x:0:\nwww-data:x:33:\nredis:x:101:\npostgres:x:999:\napp:x:1000:\nnogroup:x:65534:\n"

# As the images' own start scripts: change the owner of the data to the server's user, and continue as that user.
_REDIS_START = """\
#!/bin/sh
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis:redis .
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
exec "$@"
"""
_POSTGRES_START = """\
#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -A trust --no-sync >/dev/null
    echo "host all all all trust" >> "$PGDATA/pg_hba.conf"
fi
exec "$@"
"""


def _program(name: str, text: str) -> Entry:
    return Entry(name, text.encode(), mode=0o755)


@functools.cache
def _debian(packages: str) -> bytes:
    """Return a layer with exactly these packages. Raises NoPackages."""
    found = entries_below(debian_root(*packages.split(), exactly=True), without=_SLIM)
    # These files of an upper layer would hide those of the base layer.
    return layer_of(entry for entry in found if entry.name not in ("etc/passwd", "etc/group"))


def _base() -> list[Layer]:
    accounts = [Entry("etc/passwd", _PASSWD.encode()), Entry("etc/group", _GROUP.encode())]
    return [_debian(_BASE), [directory("etc"), *accounts]]


def nginx(name: str) -> BuiltImage:
    """Return nginx as a web server at port 80, which logs to the container's output."""
    site = [
        directory("etc/nginx/sites-enabled"),
        symlink("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default"),
        symlink("var/log/nginx/access.log", "/dev/stdout"),
        symlink("var/log/nginx/error.log", "/dev/stderr"),
        Entry("var/www/html/index.html", b"Welcome to nginx!\n"),
    ]
    command = ["nginx", "-g", "daemon off;"]
    return built(
        name,
        *_base(),
        _debian("nginx nginx-common"),
        site,
        compression="",
        Cmd=command,
        Env=[PATH],
        StopSignal="SIGQUIT",
    )


def redis(name: str, *command: str) -> BuiltImage:
    """Return redis at port 6379, which gives up root's rights. command: replaces `redis-server` without arguments."""
    data = [directory("data", uid=101, gid=101), _program("usr/local/bin/docker-entrypoint.sh", _REDIS_START)]
    return built(
        name,
        *_base(),
        _debian(_REDIS),
        data,
        compression="",
        Entrypoint=["docker-entrypoint.sh"],
        Cmd=list(command) or ["redis-server", "--protected-mode", "no", "--save", ""],
        Env=[PATH],
        WorkingDir="/data",
        Volumes={"/data": {}},
        ExposedPorts={"6379/tcp": {}},
    )


def postgres(name: str) -> BuiltImage:
    """Return PostgreSQL at port 5432, which refuses to run as root, and makes its database at the first start."""
    data = [
        directory("var/lib/postgresql", uid=999, gid=999),
        directory("var/lib/postgresql/data", 0o777, uid=999, gid=999),
        directory("run/postgresql", 0o3777, uid=999, gid=999),
        _program("usr/local/bin/docker-entrypoint.sh", _POSTGRES_START),
    ]
    path = PATH.replace("=", "=/usr/lib/postgresql/15/bin:", 1)
    return built(
        name,
        *_base(),
        _debian(_POSTGRES),
        data,
        compression="",
        Entrypoint=["docker-entrypoint.sh"],
        Cmd=[
            "postgres",
            "-c",
            "listen_addresses=*",
            "-c",
            "fsync=off",
            "-c",
            "unix_socket_directories=/run/postgresql",
        ],
        Env=[path, "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"],
        Volumes={"/var/lib/postgresql/data": {}},
        StopSignal="SIGINT",
    )


def python(name: str, programs: dict[str, str] | None = None, **config: object) -> BuiltImage:
    """Return Python as the user `app`. programs: name in /usr/local/bin -> text."""
    own = [directory("srv/data", uid=1000, gid=1000), Entry("srv/data/owned", b"by app\n", uid=1000, gid=1000)]
    made = [_program(f"usr/local/bin/{file}", text) for file, text in (programs or {}).items()]
    settings = {"Env": [PATH, "PYTHONUNBUFFERED=1"], "WorkingDir": "/srv", "User": "app", **config}
    return built(name, *_base(), _debian(_PYTHON), [*own, *made], compression="", **settings)


@functools.cache
def _busybox_program() -> bytes:
    return (debian_root("busybox-static", exactly=True) / "bin/busybox").read_bytes()


@functools.cache
def _busybox() -> tuple[Entry, ...]:
    """Return busybox with a hard link for each of its programs, as in the image `busybox`."""
    program = debian_root("busybox-static", exactly=True) / "bin/busybox"
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    folders = [directory(folder) for folder in ("bin", "etc", "root", "home", "var", "www")]
    links = [hardlink(f"bin/{applet}", "bin/busybox") for applet in names if applet != "busybox"]
    accounts = [Entry("etc/passwd", _PASSWD.encode()), Entry("etc/group", _GROUP.encode())]
    return (*folders, directory("tmp", 0o1777), Entry("bin/busybox", _busybox_program(), mode=0o755), *links, *accounts)


_SERVE = ["httpd", "-f", "-v", "-p", "80", "-h", "/www"]


def busybox(name: str, *layers: Layer) -> BuiltImage:
    """Return busybox with more layers; it serves /www at port 80."""
    page: list[Layer] = [[Entry("www/index.html", b"busybox\n")]]
    return built(name, _busybox(), *(layers or page), compression="", Cmd=_SERVE, Env=["PATH=/bin"])


def static(name: str) -> BuiltImage:
    """Return a static program that serves files at port 8080, without shell, libraries and root."""
    files = [
        directory("app"),
        # The name of the program selects busybox's function.
        Entry("app/busybox", _busybox_program(), mode=0o755),
        directory("site"),
        Entry("site/index.html", b"static\n"),
    ]
    command = ["/app/busybox", "httpd", "-f", "-v", "-p", "8080", "-h", "/site"]
    return built(name, files, compression="", Entrypoint=command, User="65532:65532", Env=["PATH=/usr/bin"])


def many_layers(name: str) -> BuiltImage:
    """Return 60 layers: each adds a file, replaces one, and deletes one of the layer below."""
    layers: list[Layer] = [
        [
            Entry(f"www/layer-{number}", b"x"),
            Entry("www/index.html", b"%d\n" % number),
            Entry(f"www/passing-{number}", b"x"),
            *([whiteout(f"www/passing-{number - 1}")] if number > 1 else []),
        ]
        for number in range(1, 60)
    ]
    return busybox(name, *layers)


def changed_layers(name: str) -> BuiltImage:
    """Return layers that delete, hide and replace files of lower layers, and have hard links to them."""
    first = [
        *(Entry(f"www/{file}", b"first\n") for file in ("index.html", "gone", "kept", "original")),
        directory("www/dir"),
        Entry("www/dir/hidden", b"x"),
        directory("www/replaced"),
        Entry("www/replaced/file", b"x"),
    ]
    second = [
        hardlink("www/linked", "www/original"),
        whiteout("www/gone"),
        directory("www/dir"),
        opaque("www/dir"),
        Entry("www/dir/new", b"x"),
        Entry("www/replaced", b"second\n"),
    ]
    third = [whiteout("www/original"), Entry("www/kept", b"third\n")]
    return busybox(name, first, second, third, [hardlink("www/again", "www/linked")])
