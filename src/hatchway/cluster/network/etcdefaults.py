"""The files of /etc that Hatchway makes for every pod.

Pods see the public files of the host's /etc unchanged (`roottemplate.prepare`). The files in this module replace files
that describe the host or contain secrets. Such files cannot simply be left out, because programs expect them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# The host's file could send look-ups to other services than the resolver of /etc/resolv.conf: nscd, systemd-resolved,
# mDNS, a directory service.
_NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""

# The host's file may name a directory service, or contain its password. With Hatchway's file, a login checks only
# /etc/shadow, where no account has a password.
_PAM_OTHER = """\
# Made by Hatchway for services without a file of their own.
auth     required pam_unix.so
account  required pam_unix.so
password required pam_unix.so
session  required pam_unix.so
"""
_PAM_ROOT = """\
auth     sufficient pam_rootok.so
auth     required   pam_unix.so
account  sufficient pam_rootok.so
account  required   pam_unix.so
session  required   pam_unix.so
"""
_PAM_STACKS = {"auth": "auth", "account": "account", "password": "password", "session": "session"}
_PAM: Mapping[str, str] = {
    "other": _PAM_OTHER,
    # Files that the PAM files of Debian's and Red Hat's packages include.
    **{f"common-{name}": f"{kind} required pam_unix.so\n" for name, kind in _PAM_STACKS.items()},
    "common-session-noninteractive": "session required pam_unix.so\n",
    "system-auth": _PAM_OTHER,
    "password-auth": _PAM_OTHER,
    **dict.fromkeys(("su", "su-l", "runuser", "runuser-l"), _PAM_ROOT),
}
# Modules of PAM report an error when their configuration file is missing.
_SECURITY = ("access.conf", "faillock.conf", "group.conf", "limits.conf", "namespace.conf", "pam_env.conf", "time.conf")

_SERVICES = (
    ("ftp", 21, "tcp"), ("ssh", 22, "tcp"), ("telnet", 23, "tcp"), ("smtp", 25, "tcp"), ("domain", 53, "tcp"),
    ("domain", 53, "udp"), ("http", 80, "tcp"), ("pop3", 110, "tcp"), ("ntp", 123, "udp"), ("imap2", 143, "tcp"),
    ("ldap", 389, "tcp"), ("https", 443, "tcp"), ("https", 443, "udp"), ("submission", 587, "tcp"),
    ("ldaps", 636, "tcp"), ("imaps", 993, "tcp"), ("pop3s", 995, "tcp"), ("mysql", 3306, "tcp"),
    ("postgresql", 5432, "tcp"),
)  # fmt: skip
_PROTOCOLS = (
    ("ip", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("ipv6", 41),
    ("ipv6-icmp", 58),
    ("sctp", 132),
)
# /etc/hosts of the nodes themselves, which hostPath volumes may name.
NODE_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_LOCKED_SHADOW = "{}:*:19000:0:99999:7:::\n"


def etc_files(given: Mapping[str, str], hostname: str) -> dict[str, str]:
    """Return the contents of the files of a pod's /etc, by path below /etc. given: further files, or replacements."""
    return {
        "hostname": f"{hostname}\n",
        "nsswitch.conf": _NSSWITCH,
        "resolv.conf": "",
        "environment": "",
        **{f"pam.d/{name}": text for name, text in _PAM.items()},
        **{f"security/{name}": "# Made by Hatchway: nothing is set.\n" for name in _SECURITY},
        **given,
    }


def missing_files(present: Iterable[str]) -> dict[str, str]:
    """Return the files that programs expect in /etc and the host lacks. present: the names of the host's files."""
    found = {
        "services": "".join(f"{name}\t{port}/{protocol}\n" for name, port, protocol in _SERVICES),
        "protocols": "".join(f"{name}\t{number}\t{name.upper()}\n" for name, number in _PROTOCOLS),
        "shells": "/bin/sh\n/bin/bash\n",
        "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
    }
    there = set(present)
    return {name: text for name, text in found.items() if name not in there}


def shadow(passwd: str) -> str:
    """Return an /etc/shadow for the accounts of an /etc/passwd: all are valid, and none has a password."""
    names = [
        line.partition(":")[0] for line in passwd.splitlines() if ":" in line and not line.startswith(("#", "+", "-"))
    ]
    return "".join(_LOCKED_SHADOW.format(name) for name in names if name)
