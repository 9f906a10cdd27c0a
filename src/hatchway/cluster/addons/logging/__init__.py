"""The built-in service `elasticsearch-logging`: every container's log lines in a search index, behind Elasticsearch's REST API.

cri.py collector.py      log files in, documents out
values.py mapping.py     what a document's fields are, and how they are indexed
index.py store.py        tantivy indices on disk, one for each Elasticsearch index
lucene.py dsl.py         the two query languages, both made into query.py's tree; execute.py runs it
search.py bulk.py cat.py app.py   the REST API
"""
