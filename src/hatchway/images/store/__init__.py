"""The store of images on this machine: blobs by their digests, names of images, and what is in use."""
