"""The dashboards: pages in the browser that draw the series of this add-on's store.

site.py     serves the files of the pages, and the part of Prometheus' HTTP API that they use
pages/      the pages: HTML, CSS and JavaScript modules without a build step; every URL in them is relative
vendor/     uPlot, which draws the charts
"""
