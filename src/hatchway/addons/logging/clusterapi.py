"""Answers requests about the Elasticsearch cluster: its name, its health, its tables (`_cat`)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.logging import cat, search
from hatchway.addons.logging.esapi import CLUSTER, GET, NODE, PREFIXES, VERSION, EsApi, index_of
from hatchway.addons.logging.messages import answer, table
from hatchway.addons.logging.query import MatchAll


class ClusterApi(EsApi):
    """Answers requests about the Elasticsearch cluster as a whole. It has one node: this program."""

    def routes(self) -> list[Route]:
        """Return the routes of this class."""
        routes = [
            Route("/", self.root, methods=GET),
            Route("/_cluster/settings", self.settings, methods=GET),
            Route("/_nodes", self.nodes, methods=GET),
            Route("/_cat", self.cat_help, methods=GET),
            Route("/_cat/health", self.cat_health, methods=GET),
            Route("/_cat/nodes", self.cat_nodes, methods=GET),
        ]
        for prefix in PREFIXES:
            routes += [
                Route(f"/_cluster/health{prefix}", self.health, methods=GET),
                Route(f"/_cat/indices{prefix}", self.cat_indices, methods=GET),
                Route(f"/_cat/count{prefix}", self.cat_count, methods=GET),
            ]
        return routes

    async def root(self, request: Request) -> Response:
        """Answer `GET /`: names and version."""
        version = {
            "number": VERSION,
            "build_flavor": "hatchway",
            "build_type": "tantivy",
            "lucene_version": "8.7.0",
            "minimum_wire_compatibility_version": "6.8.0",
            "minimum_index_compatibility_version": "6.0.0-beta1",
        }
        body = {"name": NODE, "cluster_name": CLUSTER, "cluster_uuid": CLUSTER, "version": version}
        return answer(request, {**body, "tagline": "You Know, for Search"})

    async def health(self, request: Request) -> Response:
        """Answer `GET /_cluster/health`: one node that is always green."""
        found = await self.on_store_thread(lambda: self.store.resolve(index_of(request)))
        count = len(found)
        body = {
            "cluster_name": CLUSTER,
            "status": "green",
            "timed_out": False,
            "number_of_nodes": 1,
            "number_of_data_nodes": 1,
            "active_primary_shards": count,
            "active_shards": count,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": 0,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0,
        }
        return answer(request, body)

    async def settings(self, request: Request) -> Response:
        """Answer `GET /_cluster/settings`: no settings."""
        return answer(request, {"persistent": {}, "transient": {}})

    async def nodes(self, request: Request) -> Response:
        """Answer `GET /_nodes`: this server is the only one."""
        node = {"name": NODE, "version": VERSION, "roles": ["data", "ingest", "master"], "http": {}}
        counts = {"total": 1, "successful": 1, "failed": 0}
        return answer(request, {"_nodes": counts, "cluster_name": CLUSTER, "nodes": {NODE: node}})

    # Tables

    async def cat_help(self, request: Request) -> Response:
        """Answer `GET /_cat`: the list of tables."""
        names = ("health", "indices", "indices/{index}", "count", "count/{index}", "nodes")
        return Response("=^.^=\n" + "".join(f"/_cat/{name}\n" for name in names), media_type="text/plain")

    async def cat_indices(self, request: Request) -> Response:
        """Answer `GET /_cat/indices`: sizes and numbers of documents."""

        def rows() -> list[dict[str, str]]:
            found = self.store.resolve(index_of(request))
            for index in found:
                index.refresh()
            return cat.indices(found, request.query_params)

        return table(request, await self.on_store_thread(rows))

    async def cat_health(self, request: Request) -> Response:
        """Answer `GET /_cat/health`."""
        return table(request, cat.health(await self.on_store_thread(lambda: self.store.resolve("")), CLUSTER))

    async def cat_count(self, request: Request) -> Response:
        """Answer `GET /_cat/count`: the number of documents."""
        counted = await self.on_store_thread(lambda: search.count(self.store.resolve(index_of(request)), MatchAll()))
        return table(request, cat.count(counted["count"]))

    async def cat_nodes(self, request: Request) -> Response:
        """Answer `GET /_cat/nodes`."""
        return table(request, [{"ip": "127.0.0.1", "node.role": "dim", "master": "*", "name": NODE}])
