"""Medical knowledge: data with their sources, and the code that looks things up in them.

`review_answer` is the one door to the rules; it is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medllm.clinical.review import review_answer

__all__ = ["review_answer"]


def __getattr__(name: str) -> Any:
    if name == "review_answer":
        from medllm.clinical.review import review_answer

        return review_answer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
