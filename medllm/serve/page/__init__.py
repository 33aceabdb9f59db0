"""The page of a server: plain HTML, CSS and JavaScript of our own."""
