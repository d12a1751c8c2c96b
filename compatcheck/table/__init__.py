"""One side of a comparison as a checked table."""
