"""llama-server as a supervised process: many answers at once, and beginnings that are kept."""
