"""The built-in service `elasticsearch-logging`: the log lines of all containers, behind Elasticsearch's REST API.

collector.py cri.py level.py      make documents from log files
values.py mapping.py              find the fields of a document, and how they are indexed
index.py documentstore.py         tantivy indices on disk, one for each Elasticsearch index
lucene.py dsl.py query.py         parse the two query languages into one tree
execute.py                        makes tantivy's queries from the tree
searchrequest.py search.py        parse a search, and execute it
aggregations.py aggregate.py      parse aggregations, and compute them
app.py esapi.py *api.py           the REST API: each *api.py serves a few paths, esapi.py is their base class
bulk.py cat.py                    execute bulk requests, and make tables
messages.py problems.py           bodies of requests and answers, errors
explorer/                         the log explorer's pages
"""
