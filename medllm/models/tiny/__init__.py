"""Small models that are built here, for trying things out."""
