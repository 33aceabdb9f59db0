"""The parts of what arrives over the wire: messages, tools, and how strictly they are read."""
