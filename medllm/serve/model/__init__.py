"""What is served: the model, what is known of it, and another one beside it."""
