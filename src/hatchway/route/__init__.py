"""Ways to carry bytes to a target, and the choice among them."""
