"""The HTML of the pages of one object: logs, events, YAML. Pure. All pages except logs work without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from hatchway.door.assets import PREFIX
from hatchway.door.portal.document import document
from hatchway.door.portal.model import Item
from hatchway.door.portal.objectcontent import ContainerChoice, EventRow
from hatchway.target import Target, format_arguments

PAGES = ("logs", "events", "yaml")
_TITLES = {"logs": "Logs", "events": "Events", "yaml": "YAML"}
# The number of lines of a log that are displayed at first.
TAIL = 1000


def pages_of(target: Target) -> tuple[str, ...]:
    """Return the names of a target's pages. Only pods have the page `logs`."""
    return PAGES if target.kind == "pods" else PAGES[1:]


def page_path(target: Target, page: str) -> str:
    """Return the address of a page of a target."""
    parts = (target.kind, target.namespace, target.name, page)
    return PREFIX + "/".join(quote(part, safe="") for part in parts if part)


def logs_page(target: Target, item: Item, found: Sequence[ContainerChoice], log_path: str, chosen: str) -> str:
    """Return the page that follows a container's log.

    Args:
        target: the pod.
        item: the result of `model.pod_item`.
        found: the pod's containers.
        log_path: the path at which `logs.js` gets the log.
        chosen: the container's name; "" for the first.
    """
    names = [container.name for container in found]
    current = chosen if chosen in names else names[0] if names else ""
    options = "".join(
        f'<option value="{escape(one.name)}"{" selected" if one.name == current else ""}'
        f"{' data-again' if one.ran_before else ''}>"
        f"{escape(one.name)}{f' ({escape(one.note)})' if one.note else ''}</option>"
        for one in found
    )
    plain = f"{log_path}?container={quote(current, safe='')}&amp;tailLines={TAIL}"
    body = (
        f'<form class="controls" id="controls" data-log="{escape(log_path)}" data-tail="{TAIL}" '
        f'data-pod="{escape(log_path.removesuffix("/log"))}">'
        f'<label>Container <select class="field" name="container" id="container">{options}</select></label>'
        '<label><input type="checkbox" id="previous"> Previous run</label>'
        '<label><input type="checkbox" id="times"> Times</label>'
        '<span class="gap"></span><span class="pill" role="status" id="how">'
        '<span class="dot connecting" id="how-dot" aria-hidden="true"></span>'
        '<span id="how-text">Connecting</span></span></form>'
        '<div class="log" id="log" role="log" aria-live="off" aria-label="Log" tabindex="0"></div>'
        '<p class="logfoot"><button class="button" type="button" id="end" hidden>To the end</button>'
        f'<span id="note"></span><span class="gap"></span><a href="{plain}" id="plain">Plain text</a></p>'
        '<noscript><p class="note">Following a log needs JavaScript. '
        f'<a href="{plain}">Its last {TAIL} lines as plain text</a></p></noscript>'
    )
    return _page(target, item, "logs", body, scripts=("dom.js", "objecthead.js", "logs.js"))


def events_page(target: Target, item: Item, rows: Sequence[EventRow]) -> str:
    """Return the page of an object's events, which `events.js` keeps up to date."""
    if rows:
        lines = "".join(_event(row) for row in rows)
        body = f'<ul class="events" id="events">{lines}</ul>'
    else:
        body = '<p class="note" id="events">No events. A cluster keeps them for an hour; a quiet object has none.</p>'
    return _page(target, item, "events", body, scripts=("dom.js", "objecthead.js", "events.js"))


def _event(row: EventRow) -> str:
    word, state = ("Warning", "lacking") if row.warning else ("Normal", "ready")
    count = f" · {row.count} times" if row.count > 1 else ""
    part = f" · {escape(row.part)}" if row.part else ""
    at = escape(row.at)
    shown = escape(row.at[:19].replace("T", " ")) + (" UTC" if row.at.endswith("Z") else "")
    return (
        f'<li class="event {state}"><span class="dot {state}" aria-hidden="true"></span>'
        f'<p><b>{escape(row.reason)}</b> <span class="quiet">{word}{count}{part}</span></p>'
        f'<p class="message">{escape(row.message)}</p>'
        f'<p class="quiet"><time datetime="{at}">{shown}</time>'
        f"{f' · {escape(row.source)}' if row.source else ''}</p></li>"
    )


def yaml_page(target: Target, item: Item, text: str, *, hidden: bool) -> str:
    """Return the page of an object's YAML. hidden: True when values were left out."""
    kind = {"services": "service", "pods": "pod", "nodes": "node"}[target.kind]
    namespace = f" -n {target.namespace}" if target.namespace else ""
    command = f"kubectl get {kind} {target.name}{namespace} -o yaml"
    note = (
        f'<p class="note">What looks like a secret is not shown here; <code>{escape(command)}</code> prints all.</p>'
        if hidden
        else ""
    )
    body = (
        f'{note}<div class="snippet yaml"><pre id="yaml" tabindex="0" aria-label="YAML">{escape(text)}</pre>'
        '<button class="button copy-text" type="button" data-for="yaml" aria-label="Copy the YAML" hidden>'
        "Copy</button></div>"
    )
    return _page(target, item, "yaml", body, scripts=("problem.js",))


def _reason(found: Item) -> str:
    name = f"<code>{escape(found['name'])}</code> " if found.get("name") else ""
    return f'<p class="reason">{name}{escape(found["text"])}</p>'


def _page(target: Target, item: Item, current: str, body: str, *, scripts: Sequence[str]) -> str:
    title = f"{target.name} · {_TITLES[current]}"
    state = str(item.get("state") or "empty")
    summary = str(item.get("summary") or "")
    reasons = "".join(_reason(found) for found in (item.get("reasons") or ())[:5])
    links = "".join(
        f'<a href="{page_path(target, page)}"{" aria-current=page" if page == current else ""}>{_TITLES[page]}</a>'
        for page in pages_of(target)
    )
    url = str(item.get("url") or "")
    opens = (
        f'<a class="button" id="open" href="{escape(url)}" target="_blank" rel="noopener noreferrer">Open</a>'
        if url
        else ""
    )
    content = (
        f'<header><p class="crumbs"><a href="/#{target.kind}">Hatchway</a> <span aria-hidden="true">/</span> '
        f"{escape(target.kind.removesuffix('s'))}{f' in {escape(target.namespace)}' if target.namespace else ''}</p>"
        f'<div class="head"><h1 title="{escape(format_arguments(target))}">{escape(target.name)}</h1>'
        f'<span class="state {escape(state)}" id="state">'
        f'<span class="dot {escape(state)}" aria-hidden="true"></span>{escape(summary)}</span>'
        f'<span class="gap"></span>{opens}</div><div id="reasons">{reasons}</div>'
        f'<nav aria-label="Pages of {escape(target.name)}">{links}</nav></header>\n'
        f'<main id="main">{body}</main>'
    )
    return document(title, content, styles=("object.css",), scripts=scripts, kind=f"page-{current}")
