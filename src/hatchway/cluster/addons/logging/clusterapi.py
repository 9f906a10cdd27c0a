"""What the REST API says of the cluster as a whole: its name, its health, its tables (`_cat`)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.cluster.addons.logging import cat, search
from hatchway.cluster.addons.logging.messages import answer, table
from hatchway.cluster.addons.logging.part import CLUSTER, GET, NODE, PREFIXES, VERSION, Part, index_of
from hatchway.cluster.addons.logging.query import MatchAll


class ClusterApi(Part):
    def routes(self) -> list[Route]:
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
        found = await self.run(lambda: self.store.resolve(index_of(request)))
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
        return answer(request, {"persistent": {}, "transient": {}})

    async def nodes(self, request: Request) -> Response:
        node = {"name": NODE, "version": VERSION, "roles": ["data", "ingest", "master"], "http": {}}
        counts = {"total": 1, "successful": 1, "failed": 0}
        return answer(request, {"_nodes": counts, "cluster_name": CLUSTER, "nodes": {NODE: node}})

    # Tables

    async def cat_help(self, request: Request) -> Response:
        names = ("health", "indices", "indices/{index}", "count", "count/{index}", "nodes")
        return Response("=^.^=\n" + "".join(f"/_cat/{name}\n" for name in names), media_type="text/plain")

    async def cat_indices(self, request: Request) -> Response:
        def rows() -> list[dict[str, str]]:
            found = self.store.resolve(index_of(request))
            for index in found:
                index.refresh()
            return cat.indices(found, request.query_params)

        return table(request, await self.run(rows))

    async def cat_health(self, request: Request) -> Response:
        return table(request, cat.health(await self.run(lambda: self.store.resolve("")), CLUSTER))

    async def cat_count(self, request: Request) -> Response:
        counted = await self.run(lambda: search.count(self.store.resolve(index_of(request)), MatchAll()))
        return table(request, cat.count(counted["count"]))

    async def cat_nodes(self, request: Request) -> Response:
        return table(request, [{"ip": "127.0.0.1", "node.role": "dim", "master": "*", "name": NODE}])
