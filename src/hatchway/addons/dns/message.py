"""Makes the bytes of an answer from a query (RFC 1035, 2308, 6891, 8020, 8482). Pure."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Sequence

from dnslib import (
    AAAA,
    CNAME,
    NS,
    PTR,
    QTYPE,
    RCODE,
    RD,
    RR,
    SOA,
    SRV,
    TXT,
    A,
    DNSError,
    DNSHeader,
    DNSLabel,
    DNSQuestion,
    DNSRecord,
)

from hatchway.addons.dns.dnsquery import HEADER, DnsQuery
from hatchway.addons.dns.zone import NEGATIVE_TTL, Zone, ZoneAnswer, ZoneRecord

# A size that needs no fragments on any network path (dnsflagday.net/2020); longer answers are sent by TCP.
UDP_PAYLOAD = 1232
# How many CNAMEs of the cluster are followed.
_CHAIN = 8
# Answers of outside resolvers that are longer than this (bytes) are not added to an answer of this server.
_OUTSIDE_BYTES = 4096
_ANY, _HINFO = 255, 13
_TRANSFERS = (251, 252)
_CLASS_IN, _CLASS_ANY = 1, 255


class DnsAnswer:
    """An answer before it is packed for its transport.

    outside: a name outside the cluster to which the question's name leads (a Service of type ExternalName); "" for
    none. The answer must contain the records of this name (`add_outside`).
    """

    def __init__(self, record: DNSRecord, outside: str = "") -> None:
        self.record = record
        self.outside = outside

    def outside_query(self) -> bytes:
        """Return the query for the records of `outside`."""
        question = DNSQuestion(DNSLabel(self.outside), self.record.q.qtype, self.record.q.qclass)
        return bytes(DNSRecord(DNSHeader(id=0, bitmap=0, rd=1), q=question).pack())

    def add_outside(self, answer: bytes) -> None:
        """Add the records of `answer`, the answer to `outside_query`. A long or malformed answer adds nothing."""
        if len(answer) > _OUTSIDE_BYTES:
            return
        try:
            found = DNSRecord.parse(answer)
            # Some records can be parsed, but not packed.
            found.pack()
        except (DNSError, ValueError, IndexError, struct.error):
            return
        self.record.header.tc = found.header.tc
        self.record.rr += found.rr

    @property
    def rcode(self) -> str:
        """Return the name of the response code: `NOERROR`, `NXDOMAIN` ..."""
        return str(RCODE.get(self.record.header.rcode))

    def pack(self, limit: int) -> bytes:
        """Encode the answer in at most `limit` bytes, and return the bytes.

        When the answer is too long, its additional records are removed. If it is still too long, answers are removed
        and the bit TC is set (RFC 2181 section 9).
        """
        record = self.record
        packed = bytes(record.pack())
        if len(packed) <= limit:
            return packed
        options = [rr for rr in record.ar if rr.rtype == QTYPE.OPT]
        record.ar = options
        packed = bytes(record.pack())
        if len(packed) <= limit:
            return packed
        record.header.tc = 1
        record.auth = []
        answers, low, high = record.rr, 0, len(record.rr)
        while low < high:
            middle = (low + high + 1) // 2
            record.rr = answers[:middle]
            if len(record.pack()) <= limit:
                low = middle
            else:
                high = middle - 1
        record.rr = answers[:low]
        return bytes(record.pack())


class Resolver:
    """Answers queries about one cluster's domain and its addresses.

    Args:
        zone: the names of the cluster's objects.
        domain: the cluster's domain, without a dot at its end.
        own_ranges: address ranges of the cluster. A reverse query for an unused address in them is answered with
            NXDOMAIN; a query for any other unknown address is for the resolvers outside the cluster.
    """

    def __init__(
        self, zone: Zone, domain: str = "cluster.local", own_ranges: Sequence[ipaddress.IPv4Network] = ()
    ) -> None:
        self.zone = zone
        self._own_ranges = tuple(own_ranges)
        self.domain = tuple(domain.lower().split("."))

    def answer(self, query: DnsQuery) -> DnsAnswer | None:
        """Return the answer, or None when resolvers outside the cluster must answer the query."""
        if query.edns:
            return _bad_version(query)
        if query.qclass not in (_CLASS_IN, _CLASS_ANY) or query.type in _TRANSFERS:
            return failure(query, "REFUSED")
        if query.name[-len(self.domain) :] == self.domain:
            return self._forward_name(query)
        if query.name[-2:] in (("in-addr", "arpa"), ("ip6", "arpa")):
            return self._reverse_name(query)
        return None

    def _forward_name(self, query: DnsQuery) -> DnsAnswer:
        record = _start(query, authoritative=True)
        name, labels = DNSLabel(query.question), query.name
        found = self._lookup(labels)
        for _ in range(_CHAIN):
            alias = next((r for r in found.records if r.type == "CNAME"), None)
            if alias is None or query.type in (QTYPE.CNAME, _ANY):
                break
            record.add_answer(self._rr(name, alias))
            target = str(alias.data)
            name, labels = DNSLabel(target.encode()), tuple(target.split("."))
            if labels[-len(self.domain) :] != self.domain:
                return DnsAnswer(record, target)
            found = self._lookup(labels)
        self._fill(record, query, name, found)
        return DnsAnswer(record)

    def _reverse_name(self, query: DnsQuery) -> DnsAnswer | None:
        ip = _reversed_address(query.name)
        found = self.zone.reverse(ip) if ip else ZoneAnswer()
        if not found.exists and not (
            ip and ":" not in ip and any(ipaddress.IPv4Address(ip) in network for network in self._own_ranges)
        ):
            return None
        record = _start(query, authoritative=True)
        self._fill(record, query, DNSLabel(query.question), found)
        return DnsAnswer(record)

    def _lookup(self, labels: tuple[str, ...]) -> ZoneAnswer:
        return self.zone.lookup(list(labels[: -len(self.domain)]))

    def _fill(self, record: DNSRecord, query: DnsQuery, name: DNSLabel, found: ZoneAnswer) -> None:
        if not found.exists:
            record.header.rcode = RCODE.NXDOMAIN
        if query.type == _ANY and found.exists:
            # A minimal answer (RFC 8482), because queries of the type ANY are used for amplification attacks.
            record.add_answer(RR(name, _HINFO, ttl=NEGATIVE_TTL, rdata=RD(b"\x07RFC8482\x00")))
            return
        if query.type == QTYPE.SOA and query.name == self.domain:
            record.add_answer(self._soa())
            return
        wanted = QTYPE.get(query.type)
        records = [each for each in found.records if each.type == wanted]
        if not records:
            record.add_auth(self._soa())
            return
        random.shuffle(records)
        for each in records:
            record.add_answer(self._rr(name, each))
        if wanted == "SRV":
            for each in found.extra:
                record.add_ar(self._rr(self._absolute(each.name or ""), each))

    def _absolute(self, relative: str) -> DNSLabel:
        labels = (*relative.split("."), *self.domain) if relative else self.domain
        return DNSLabel([label.encode() for label in labels])

    def _soa(self) -> RR:
        # There are no zone transfers, so the serial number does not matter.
        times = (1, 7200, 1800, 86400, NEGATIVE_TTL)
        rdata = SOA(self._absolute("ns.dns"), self._absolute("hostmaster"), times)
        return RR(self._absolute(""), QTYPE.SOA, ttl=NEGATIVE_TTL, rdata=rdata)

    def _rr(self, name: DNSLabel, record: ZoneRecord) -> RR:
        data = record.data
        if isinstance(data, tuple):
            rdata: RD = SRV(0, 100, data[0], self._absolute(data[1]))
        elif record.type == "A":
            rdata = A(data)
        elif record.type == "AAAA":
            rdata = AAAA(data)
        elif record.type == "CNAME":
            rdata = CNAME(DNSLabel(data.encode()))
        elif record.type == "PTR":
            rdata = PTR(self._absolute(data))
        elif record.type == "NS":
            rdata = NS(self._absolute(data))
        else:
            rdata = TXT(data)
        return RR(name, getattr(QTYPE, record.type), ttl=record.ttl, rdata=rdata)


def failure(query: DnsQuery, rcode: str) -> DnsAnswer:
    """Return an answer without records: `SERVFAIL`, `REFUSED` ..."""
    record = _start(query)
    record.header.rcode = getattr(RCODE, rcode)
    return DnsAnswer(record)


def refusal(data: bytes, rcode: str) -> DnsAnswer:
    """Return the answer to bytes that are not a valid query. Unlike other answers, it does not repeat the question.

    Args:
        data: the bytes of the message, at least a whole header.
        rcode: the name of the response code.
    """
    number, flags = HEADER.unpack_from(data)[:2]
    header = DNSHeader(
        id=number, bitmap=0, qr=1, rd=(flags >> 8) & 1, opcode=(flags >> 11) & 15, rcode=getattr(RCODE, rcode)
    )
    return DnsAnswer(DNSRecord(header))


def _start(query: DnsQuery, *, authoritative: bool = False) -> DNSRecord:
    header = DNSHeader(
        id=query.id, bitmap=0, qr=1, aa=int(authoritative), rd=int(query.recursion_desired), ra=1, rcode=0
    )
    record = DNSRecord(header, q=DNSQuestion(DNSLabel(query.question), query.type, query.qclass))
    if query.edns is not None:
        record.add_ar(RR(".", QTYPE.OPT, rclass=UDP_PAYLOAD, ttl=0, rdata=[]))
    return record


def _bad_version(query: DnsQuery) -> DnsAnswer:
    record = _start(query)
    # BADVERS is 16. The header has only the lowest four bits of the code; the other bits are in the OPT record.
    record.ar[0].ttl = 1 << 24
    return DnsAnswer(record)


def _reversed_address(name: tuple[str, ...]) -> str:
    """Return the address behind a name of in-addr.arpa or ip6.arpa; "" when there is none."""
    labels = name[:-2][::-1]
    if name[-2] == "in-addr":
        text = ".".join(labels)
    else:
        if len(labels) != 32 or any(len(label) != 1 for label in labels):
            return ""
        digits = "".join(labels)
        text = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
