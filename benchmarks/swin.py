"""What padding before shifting costs: a step of the Swin-T encoder, beside timm's own.

python -m benchmarks.swin --rounds 15
python -m benchmarks.swin --device cuda --rounds 50 --batch 8

A step is forward and backward in training mode, drop-path included, with the same weights. At
224×224 all maps are whole windows and nothing is padded; at 512×512 those of the first three stages
are padded, here and in timm alike.
"""

import argparse
from functools import partial

import timm
import torch
from torch import nn

from benchmarks.measure import interleaved, machine
from pne_seg.networks.encoders import build_encoder

NAME = "swin_tiny_patch4_window7_224"
SIZES = ((224, 224), (512, 512), (512, 1024))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    ours = build_encoder(f"tu-{NAME}", None, drop_path_rate=0.3).model.to(args.device).train()
    flexible = {"strict_img_size": False, "always_partition": True, "drop_path_rate": 0.3}
    theirs = timm.create_model(NAME, features_only=True, **flexible)  # type: ignore[arg-type]
    theirs = theirs.to(args.device).train()
    theirs.load_state_dict(ours.state_dict())
    print(machine(args.device))
    print("| image | timm, ms | padded first, ms | ratio |\n| --- | ---: | ---: | ---: |")
    for height, width in SIZES:
        images = torch.randn(args.batch, 3, height, width, device=args.device)
        encoders = {"timm": theirs, "ours": ours}
        calls = {name: partial(step, encoder, images) for name, encoder in encoders.items()}
        seconds = interleaved(calls, args.rounds, args.device)
        milliseconds = " | ".join(f"{1e3 * seconds[name]:.0f}" for name in encoders)
        ratio = seconds["ours"] / seconds["timm"]
        print(f"| {height}×{width} | {milliseconds} | {ratio:.3f} |", flush=True)


def step(encoder: nn.Module, images: torch.Tensor) -> None:
    """Forward and backward."""
    encoder.zero_grad(set_to_none=True)
    torch.stack([feature.mean() for feature in encoder(images)]).sum().backward()


if __name__ == "__main__":
    main()
