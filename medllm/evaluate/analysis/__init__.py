"""What the records of items show: comparisons, subgroups, patterns of errors."""
