"""kubectl's global flags: settings of the command line that replace those of the kubeconfig.

They are applied as in client-go (`tools/clientcmd/client_config.go`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Overrides:
    """The global flags of kubectl; "" or () for flags that were not given, None for `insecure`.

    cluster, user: names of entries in the kubeconfig.
    server, tls_server_name, certificate_authority, insecure, proxy: settings of the cluster.
    token, username, password, client_certificate, client_key, impersonate*: settings of the user.
    impersonate_extra: (key, value) pairs.
    namespace: a setting of the context.
    timeout: seconds for one request; 0 for this project's own limits.
    """

    cluster: str = ""
    user: str = ""
    namespace: str = ""
    server: str = ""
    tls_server_name: str = ""
    certificate_authority: str = ""
    insecure: bool | None = None
    proxy: str = ""
    token: str = ""
    username: str = ""
    password: str = ""
    client_certificate: str = ""
    client_key: str = ""
    impersonate: str = ""
    impersonate_groups: tuple[str, ...] = ()
    impersonate_uid: str = ""
    impersonate_extra: tuple[tuple[str, str], ...] = ()
    timeout: float = 0.0

    def __repr__(self) -> str:
        """Return the names of the given flags. Their values are left out, because some are secrets."""
        return f"Overrides({', '.join(name for name in self.__slots__ if getattr(self, name))})"

    def of_cluster(self, cluster: dict[str, Any]) -> dict[str, Any]:
        """Return a cluster of the kubeconfig with the command line's settings applied."""
        found = {**cluster, **_non_empty({"server": self.server, "proxy-url": self.proxy})}
        if self.insecure or self.certificate_authority:
            # Each of these flags replaces all of the kubeconfig's settings about verifying the server.
            found |= {
                "insecure-skip-tls-verify": bool(self.insecure),
                "certificate-authority": self.certificate_authority,
                "certificate-authority-data": "",
            }
        elif self.insecure is False:
            found["insecure-skip-tls-verify"] = False
        if self.tls_server_name or self.server:
            # The kubeconfig's tls-server-name belongs to the server that is replaced.
            found["tls-server-name"] = self.tls_server_name
        return found

    def of_user(self, user: dict[str, Any]) -> dict[str, Any]:
        """Return a user of the kubeconfig with the command line's settings applied.

        A token, a user name or a password of the command line replaces all of the user's tokens, passwords and plugins.
        """
        found = dict(user)
        if self.token or self.username or self.password:
            for key in ("token", "tokenFile", "username", "password", "exec", "auth-provider"):
                found.pop(key, None)
            found |= _non_empty({"token": self.token, "username": self.username, "password": self.password})
        for key, path in (("client-certificate", self.client_certificate), ("client-key", self.client_key)):
            if path:
                found |= {key: path, f"{key}-data": ""}
        extra: dict[str, list[str]] = {}
        for key, text in self.impersonate_extra:
            extra.setdefault(key, []).append(text)
        return found | _non_empty(
            {
                "as": self.impersonate,
                "as-uid": self.impersonate_uid,
                "as-groups": list(self.impersonate_groups),
                "as-user-extra": extra,
            }
        )


def _non_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: text for key, text in fields.items() if text}


NONE = Overrides()


class ChosenCluster(NamedTuple):
    """The cluster that a command line chooses: the arguments of `contexts.load` and `Connection.load`."""

    kubeconfig: str | None = None
    context: str | None = None
    overrides: Overrides = NONE
