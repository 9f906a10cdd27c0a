"""The door: the listener on a person's own machine (`hatchway proxy`), its portal and its error pages."""
