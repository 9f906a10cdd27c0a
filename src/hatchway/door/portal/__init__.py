"""The portal: the page at the door's own address that shows, live, everything that its user may reach.

serviceindex.py     which slices and pods belong to which service
model.py            turns the view's objects into the page's content; pure
feed.py             versions and deltas of that content, for open pages
objectcontent.py    the content of the pages of one object; objectpages.py: their HTML
exposurecontent.py  the content of the page "Exposure"; exposurepage.py: its HTML
ingresspage.py      the HTML of the list of hosts of Ingresses
document.py         the HTML around the content of a page
portalapp.py        the ASGI application; its files are read by `door.assets`
static/             the page itself: written by hand, no build step, nothing loaded from outside
"""
