"""Red flags: emergencies in questions, and what answers to them must and must not say."""
