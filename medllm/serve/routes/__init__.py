"""What each address of the server does with a request."""
