"""How answers to clinical tasks are judged: pure functions of a prompt and an answer."""
