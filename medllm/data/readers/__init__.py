"""Raw files of any usual kind → rows."""
