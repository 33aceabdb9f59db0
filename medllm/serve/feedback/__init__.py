"""What people say of answers, and a dataset of it."""
