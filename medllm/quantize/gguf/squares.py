"""Sums of squared inputs, which the importance matrix is made of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class Squares:
    """The squared inputs of a layer, summed by column, and the tokens that they are of.

    There is a row of sums (parts, columns) and a number of tokens (parts,) for each expert of a
    layer of experts, and just one for any other layer.
    """

    sums: Any = 0.0
    tokens: Any = 0

    def add(self, sums: "Tensor", tokens: "Tensor | int") -> None:
        """Add those of a batch, on its device."""
        import torch

        exact = torch.float32 if sums.device.type == "mps" else torch.float64
        self.sums = self.sums + sums.to(exact)
        self.tokens = self.tokens + tokens

    def settle(self) -> None:
        """Make arrays of them, once all batches are added."""
        import torch

        self.sums = np.atleast_2d(torch.as_tensor(self.sums).cpu().numpy().astype(np.float64))
        self.tokens = np.atleast_1d(torch.as_tensor(self.tokens).cpu().numpy())

    @property
    def columns(self) -> int:
        """How many inputs the layer has."""
        return int(self.sums.shape[-1])

    @property
    def importance(self) -> NDArray[np.float32]:
        """The mean square of each input, part after part: what llama.cpp's quantizer weighs with.

        Rounded as what llama-quantize reads of the file, so that both make the same model; like it,
        all columns count alike for an expert that no token reached (tools/quantize/quantize.cpp).
        """
        tokens = self.tokens.astype(np.float32)[:, None]
        mean: NDArray[np.float32] = self.sums.astype(np.float32) / np.maximum(tokens, 1)
        return np.where(tokens > 0, mean, np.float32(1)).ravel()
