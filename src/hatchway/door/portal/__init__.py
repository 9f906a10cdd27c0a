"""The portal: the page at the door's own address that shows, live, everything that its user may reach.

serviceindex.py     which slices and pods belong to which service
model.py            turns the view's objects into the page's content; pure
feed.py             versions and deltas of that content, for open pages
objectcontent.py    what the pages of one object show; objectpages.py their HTML
exposurecontent.py  what the page "Exposure" shows; exposurepage.py its HTML
ingresspage.py      the HTML of the list of hosts of Ingresses
document.py         the HTML around the content of a page
portalapp.py        the ASGI application; its files are read by `door.assets`
static/             the page itself: written by hand, no build step, nothing loaded from outside
"""
