"""The log explorer: a page in the browser that searches the logs through Elasticsearch's API of this add-on.

site.py     serves the page's files and, below `api/`, the API's requests that only read
pages/      the page: HTML, CSS and JavaScript modules without a build step; every URL in it is relative
"""
