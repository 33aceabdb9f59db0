"""medllm: from raw medical text to a served, checked model, on machines that keep their data.

The eight verbs are functions of this package: `from medllm import prepare`. Each takes its
configuration, which `medllm.config.loader.configure` makes of keywords.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev1"

from medllm.places import pin_library_folders

if TYPE_CHECKING:
    from medllm.calibrate.verb import calibrate
    from medllm.evaluate.verb import evaluate
    from medllm.finetune.verb import finetune
    from medllm.generate.verb import generate
    from medllm.merge.verb import merge
    from medllm.prepare.verb import prepare
    from medllm.quantize.verb import quantize
    from medllm.serve.verb import serve

__all__ = [
    "calibrate", "evaluate", "finetune", "generate", "merge", "prepare", "quantize", "serve"
]  # fmt: skip


class _Package(ModuleType):
    """A package whose verbs stay functions when their sub-packages of the same names are imported.

    An import of `medllm.prepare.config` would set `medllm.prepare` to the sub-package. It can still
    be imported from by its full name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    """A verb, imported only when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"medllm.{name}.verb"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package

# before any library is imported, in a notebook too: libraries read these at their import
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
# OpenMP threads that spin for long crawl as soon as another process wants a core; those that sleep
# at once are woken slowly on a machine that has nothing else to do. In libgomp they spin 0.03 ms.
SPINS = "3000"
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
pin_library_folders()
