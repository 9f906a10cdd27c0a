"""The objects of the add-ons, one file for each add-on, which are applied to the cluster at every start."""
