"""The portal: the page at the door's own address that shows all that its user may reach, live.

index.py     which slices and pods belong to which service
model.py     from the view's objects to what the page shows; pure
feed.py      versions and deltas of that, for pages that follow it
app.py       the ASGI application
static/      the page itself: written by hand, no build step, nothing loaded from outside
"""
