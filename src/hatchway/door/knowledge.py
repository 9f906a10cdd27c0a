"""The facts that the door knows about one target, from its object and from its answers. All users share them.

`targetsite.py` routes requests by these facts; `targetexchange.py` and `refusal.py` add facts from answers. No fact is
about a user: credentials and cookies are in `usersession.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hatchway.door.hostheader import BadAnnotation, HostChoice, HostState, SentHost, WriteChoices, parse_host_option
from hatchway.door.schemechoice import HttpsAnswer, HttpsClaim, SchemeChoice
from hatchway.door.targetaddresses import PortSpellings, TargetAddresses, find_addresses
from hatchway.errors import HatchwayError
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.resolve import HOST_HEADER_ANNOTATION, ResolvedTarget, resolve
from hatchway.proxy.routing import RequestHead
from hatchway.rewrite.ownaddress import OwnAddressText
from hatchway.target import Target

# Methods that change nothing (RFC 9110 section 9.2.1, and WebDAV's).
SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"))
# A target's object is read again after this many seconds, even when nothing suggests that it has changed.
_VALID_SECONDS: Final = 30.0


class TargetKnowledge:
    """The facts about one target under one of its addresses at the door.

    target: the target as the request names it.
    own_host_name: under a path prefix, the target's own host name with the door's port; else b"".
    resolved: the target with its port; None before `refresh`.
    valid_until: the time (`time.monotonic`) until which `resolved` is used without reading the object again.
    scheme: the choice of HTTP or HTTPS.
    https_claim: decides about `X-Forwarded-Proto: https`.
    host_choice: the choice of Host for pages.
    addresses: the addresses by which the target knows itself.
    names_itself: True once a page or script of the target has contained one of the target's own addresses.
    unmet_need: what the application needs and the route cannot carry; "" for nothing.
    version: a number that is increased by every change that makes earlier decisions invalid.
    """

    def __init__(
        self,
        target: Target,
        host: bytes,
        *,
        host_option: str,
        own_host_name: bytes = b"",
        exact: bool = False,
        on_change: Callable[[Target], None] = lambda target: None,
    ) -> None:
        """Begin with the facts in the target's address at the door. Its object is read later (`refresh`).

        Args:
            target: the target as the request names it.
            host: the target's host name at the door, without a port, in lower case.
            host_option: the choice of the Host that applications get, as `parse_host_option` returns it.
            own_host_name: as in the class.
            exact: True when `target` comes from a proxy path. Then a missing port or scheme is not replaced by one from
                the object.
            on_change: called with the target after every change.
        """
        self.target = target
        self.own_host_name = own_host_name
        self.resolved: ResolvedTarget | None = None
        self.valid_until = 0.0
        self._expirations = 0
        self.scheme = SchemeChoice("", fixed=True)
        self.https_claim = HttpsClaim()
        self.host_choice = HostChoice(target, host_option, "")
        self.addresses = TargetAddresses(target, number="", ports=PortSpellings(target.port, {}, {}, {}))
        self.names_itself = False
        self.unmet_need = ""
        self.version = 0
        self._hosts = (host, own_host_name.partition(b":")[0]) if own_host_name else (host,)
        self._host_option = host_option
        self._exact = exact
        self._on_change = on_change
        self._upgrade_choice: HostChoice | None = None
        self._writes = WriteChoices()
        # Cached results for the last outer host.
        self._spellings: tuple[bytes, tuple[bytes, ...]] | None = None
        self._text: tuple[bytes, OwnAddressText] | None = None

    # Questions

    @property
    def is_fresh(self) -> bool:
        """Return True while `resolved` is fresh, so that `refresh` need not be awaited."""
        return self.resolved is not None and time.monotonic() < self.valid_until

    @property
    def current_target(self) -> Target:
        """Return the target with its resolved port and the scheme that is used now. Call it only after `refresh`."""
        assert self.resolved is not None
        return replace(self.resolved.target, scheme=self.scheme.value)

    def host_choice_for(self, head: RequestHead) -> HostChoice:
        """Return the choice of Host for a request.

        Upgrades have their own choice once an upgrade was answered, and writes once a write was answered. Before that,
        they use the choice for pages.
        """
        if head.upgrade is not None:
            return self._upgrade_choice or self.host_choice
        if head.method not in SAFE_METHODS:
            return self._writes.choice_for(head.path) or self.host_choice
        return self.host_choice

    def spellings(self, outer: bytes) -> tuple[bytes, ...]:
        """Return the hosts by which the target's answers may name the target. outer: the browser's `Host`."""
        if self._spellings is None or self._spellings[0] != outer:
            hosts = [host.partition(b":")[0] for host in (outer, self.own_host_name) if host]
            self._spellings = outer, (*self.addresses.spellings(hosts), self.own_host_name)
        return self._spellings[1]

    def text_rewriter(self, outer: bytes) -> OwnAddressText:
        """Return the rewriter of the target's addresses in scripts, for a page under its own host name.

        outer: the `Host` of the browser's request.
        """
        if self._text is None or self._text[0] != outer:
            # The outer name is replaced, too: an application may write `https://` before it, although browsers reach
            # the door by HTTP.
            hosts = (*self.spellings(outer), outer.lower(), self.host_choice.value.host or b"")
            self._text = outer, OwnAddressText(hosts, outer, self._record_own_name)
        return self._text[1].fresh()

    # Changes

    async def refresh(self, lookup: ObjectLookup) -> None:
        """Read the target's object and its addresses, unless they are fresh.

        Raises:
            HatchwayError: a request to the API server has failed; BadAnnotation if an annotation is invalid.
        """
        if self.is_fresh:
            return
        expirations = self._expirations
        found = await resolve(self.target, lookup)
        if self._exact:
            # The port and the scheme are given; the object is read only for the choice of Host.
            found = replace(found, target=self.target, scheme_given=True, no_http="")
        option = self._host_option
        if found.host_header and option == "auto":
            try:
                option = parse_host_option(found.host_header)
            except HatchwayError as error:
                lookup.forget()  # the next request must read a corrected annotation
                raise BadAnnotation(self.target, HOST_HEADER_ANNOTATION, error) from error
        self.addresses = await find_addresses(self.target, found, lookup, self._hosts)
        self._spellings = self._text = None
        if expirations == self._expirations:
            self.valid_until = time.monotonic() + _VALID_SECONDS
        if found == self.resolved:
            return
        if self.resolved is None or found.target != self.resolved.target:
            self.scheme = SchemeChoice(found.target.scheme, fixed=found.scheme_given)
        self.host_choice = HostChoice(self.target, option, found.listen_port, found.service_port, self.own_host_name)
        self._upgrade_choice = None
        self._writes.clear()
        self.resolved = found
        self._change()

    def expire(self) -> None:
        """Read the object again at the next request, because an answer has shown that it has changed."""
        self.valid_until = 0.0
        self._expirations += 1

    def switch_scheme(self, scheme: str) -> None:
        """Use this scheme from now on, because a request with this scheme was answered."""
        if self.scheme.switch_to(scheme):
            self._change()

    def record_accepted(self, sent: SentHost, head: RequestHead) -> None:
        """Record that a request (for a page, an upgrade or a write) with the Host `sent` was accepted."""
        choice = self._own_choice_for(head)
        if choice.record_accepted(sent) and choice is self.host_choice:
            self._on_change(self.target)
        if head.upgrade is None and head.method not in SAFE_METHODS:
            self._writes.record_accepted(head.path)

    def try_next_host(self, sent: SentHost, head: RequestHead, *, certain: bool = False) -> bool:
        """Choose the next Host for requests of the same kind as `head`, because a request with `sent` was refused.

        Args:
            sent: the Host of the refused request.
            head: the refused request.
            certain: True when the answer says that the Host or Origin is the reason.

        Returns:
            True when another attempt should be made.
        """
        choice = self._own_choice_for(head)
        if head.upgrade is None and head.method not in SAFE_METHODS:
            choice = self._writes.choice_after_refusal(head.path, sent, certain=certain) or choice
        if not choice.try_next(sent, certain=certain):
            return False
        if self.host_choice_for(head) is self.host_choice:
            # Choices for upgrades and writes that were not accepted yet begin again with the new value for pages.
            self._upgrade_choice = _if_accepted(self._upgrade_choice)
            self._writes.keep_if_accepted()
        self._change()
        return True

    def prefer_host(self, host: bytes) -> bool:
        """Send `host` as Host from now on, because the application redirects to it. Return True if this is a change."""
        if not self.host_choice.prefer(host):
            return False
        self._upgrade_choice = None
        self._writes.clear()
        self._change()
        return True

    def record_without_forwarded(self, sent: SentHost, *, accepted: bool) -> None:
        """Record the outcome of an attempt without X-Forwarded-* fields for a page's request."""
        if self.host_choice.record_without_forwarded(sent, accepted=accepted):
            self._change()

    def answer_https_demand(self) -> bool:
        """React to a redirect to the same address by HTTPS. Return True when another attempt should be made."""
        answer = self.https_claim.record_demand()
        if answer is HttpsAnswer.SPEAK and self.scheme.switch_to("https"):
            self.https_claim.active = False
        elif answer is not HttpsAnswer.CLAIM:
            self.https_claim.active = False
            return False
        self._change()
        return True

    def record_need(self, why: str) -> None:
        """Record that the application needs something that the route cannot carry."""
        if self.unmet_need != why:
            self.unmet_need = why
            self._on_change(self.target)

    def _record_own_name(self) -> None:
        if not self.names_itself:
            self.names_itself = True
            self._change()

    def _own_choice_for(self, head: RequestHead) -> HostChoice:
        """Return the choice for requests of the same kind as `head`; make one for upgrades or for writes if needed."""
        if head.upgrade is not None:
            self._upgrade_choice = self._upgrade_choice or self.host_choice.for_upgrades()
        elif head.method not in SAFE_METHODS:
            self._writes.begin(self.host_choice)
        return self.host_choice_for(head)

    def _change(self) -> None:
        """Make earlier decisions invalid, and call `on_change`."""
        self.version += 1
        self._on_change(self.target)


def _if_accepted(choice: HostChoice | None) -> HostChoice | None:
    return choice if choice is not None and choice.state is HostState.ACCEPTED else None
