"""The monitoring add-on: a time-series store that scrapes the cluster, with PromQL and Prometheus' HTTP API.

Dashboards query it as they query Prometheus. It does not use numpy: the store and the engine use `array`, `zlib`, long
integers and `itemgetter`, whose loops are in C. So the program needs about 30 MB less memory.
"""
