"""How words are meant where they stand: denied, possible, past, of somebody else, left or right."""

from medllm.clinical.context.cues import CUES
from medllm.clinical.context.meaning import Context, context_of

__all__ = ["CUES", "Context", "context_of"]
