"""The HTML of the list of hosts of Ingresses. Pure. The page works without scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final, Protocol

from hatchway.door.portal.document import document
from hatchway.door.portal.objectpages import page_path, pages_of
from hatchway.kube.ingresshosts import IngressHost
from hatchway.printable import printable
from hatchway.target import Target, format_arguments

# The maximum number of hosts on the page, and the maximum number of paths of one host.
_MOST: Final = 1000
_PATHS: Final = 8
_COLUMNS: Final = ("Host", "Ingress", "Paths", "By way of")


class IngressSource(Protocol):
    """The source of the page's content (`door.ingresslookup.IngressLookup`)."""

    async def all(self) -> Sequence[IngressHost]:
        """Return all hosts, sorted. Raises HatchwayError."""
        ...

    def url_of(self, host: IngressHost) -> str:
        """Return the URL of a host at the door; "" for a wildcard."""
        ...


def ingress_page(context: str, hosts: Sequence[IngressHost], url_of: Callable[[IngressHost], str]) -> str:
    """Return the page. url_of: returns the URL of a host at the door."""
    if hosts:
        rows = "".join(_row(one, url_of(one)) for one in hosts[:_MOST])
        head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
        more = f'<p class="note">{len(hosts) - _MOST} more.</p>' if len(hosts) > _MOST else ""
        content = (
            '<div class="table" tabindex="0" role="region" aria-label="Hosts"><table><thead><tr>'
            f"{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}"
        )
    else:
        content = (
            '<p class="note">No host can be opened: there is no Ingress that you may list, or none with a controller '
            "whose Service the door knows. The door finds a controller by the address of its Service, which must be "
            "in the status of the Ingress.</p>"
        )
    body = (
        '<header><p class="crumbs"><a href="/">Hatchway</a> <span aria-hidden="true">/</span> ingress hosts</p>'
        '<div class="head"><h1>Ingress hosts</h1></div>'
        f'<p class="reason">What the Ingresses of {_text(context) or "this cluster"} publish. Each host is opened '
        "through the door and its own controller, so no name has to be resolved, and certificates do not matter.</p>"
        f'</header><main id="main">{content}</main>'
    )
    return document("Ingress hosts", body, styles=("object.css", "exposure.css"), kind="page-ingresses")


def _row(host: IngressHost, url: str) -> str:
    name = f"<b>{_text(host.host)}</b>"
    if url:
        name = f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{name}</a>'
    paths = [
        f'<li>{_text(path)} <span class="quiet">{_text(where)}</span></li>' for path, where in host.backends[:_PATHS]
    ]
    if len(host.backends) > _PATHS:
        paths.append(f'<li class="quiet">and {len(host.backends) - _PATHS} more</li>')
    service = Target("services", host.target.name, host.target.namespace)
    page = page_path(service, pages_of(service)[-1])
    return (
        f'<tr><td>{name}</td><td>{_text(host.ingress)} <span class="quiet">in {_text(host.namespace)}</span></td>'
        f'<td><ul class="mono">{"".join(paths)}</ul></td>'
        f'<td><a href="{escape(page)}">{_text(format_arguments(host.target))}</a></td></tr>'
    )


def _text(value: str) -> str:
    return escape(printable(value))
