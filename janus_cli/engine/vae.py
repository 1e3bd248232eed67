"""The VAE of SDXL, which makes pixels of JanusFlow's latents: a model of its own, diffusers' code.

It is found when it is checked and loaded when it is first needed, in bf16 or fp32: fp16 overflows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import ModelError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class VAE:
    """Half of an autoencoder: latents to pixels."""

    def __init__(
        self,
        find: Callable[[], Path],
        *,
        channels: int,
        factor: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`find` gives its folder; `channels` and `factor` are those of the latents to be read."""
        self.find = find
        self.sizes = channels, factor
        self.dtype, self.device = dtype, device
        self.loaded: AutoencoderKL | None = None

    def check(self) -> Path:
        """Its folder.

        Raises:
            ModelError: it is not on this machine, or diffusers is not installed.
        """
        if importlib.util.find_spec("diffusers") is None:
            raise ModelError(
                "JanusFlow paints with diffusers, which is not installed; run pip install diffusers"
            )
        return self.find()

    def load(self) -> AutoencoderKL:
        """The networks, read at the first call.

        Raises:
            ModelError: they are not there, damaged, or made for other latents.
        """
        if self.loaded is None:
            folder = self.check()
            vae = read(folder, self.dtype)
            sizes = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
            if sizes != self.sizes:
                raise ModelError(
                    f"{folder}: is a VAE of {sizes[0]} channels at {sizes[1]} pixels, and the "
                    f"model draws {self.sizes[0]} at {self.sizes[1]}; take that of SDXL"
                )
            del vae.encoder, vae.quant_conv
            self.loaded = vae.to(self.device).eval()
        return self.loaded

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, S, S) to pixels (B, 3, size, size), of about -1 to 1."""
        vae = self.load()
        scaled = latents.to(self.device, torch.float32) / vae.config.scaling_factor
        pixels: Tensor = vae.decode(scaled.to(self.dtype), return_dict=False)[0]
        return pixels


def read(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE as diffusers saves it; strict, as checkpoints are."""
    from diffusers import AutoencoderKL
    from diffusers.utils import logging

    logging.set_verbosity(logging.CRITICAL)  # what matters is said here
    try:
        vae, told = AutoencoderKL.from_pretrained(
            str(folder),
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder}: cannot be read as a VAE ({reason}); fetch it again") from error
    for what, key in (("lacks", "missing_keys"), ("has unknown", "unexpected_keys")):
        if told[key]:
            raise ModelError(f"{folder}: the VAE {what} tensor {min(told[key])}; fetch it again")
    return vae
