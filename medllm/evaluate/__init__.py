"""evaluate: models × tasks → scores with their uncertainty, and a record of every item."""
