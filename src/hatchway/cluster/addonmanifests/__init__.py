"""The objects of the add-ons, which are applied to the cluster at every start. Each add-on has one file."""
