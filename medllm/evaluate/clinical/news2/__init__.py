"""What an answer says of NEWS2, read by rules: the total, each parameter's points, the response."""
