"""The dataset registry: what is known of each dataset, its files, and its rows as Examples."""
