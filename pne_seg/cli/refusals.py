"""What classes say when they cannot be built, in a few lines that name the setting."""

import re
from typing import Any

from pne_seg.errors import UserError
from pne_seg.networks.slot import PRETRAINED

_NO_ENCODER = re.compile("Wrong encoder name|Unknown model|Invalid pretrained tag")


def refusal(error: Exception, network: dict[str, Any]) -> UserError | None:
    """Translate what building data, network and losses raised; None for a mistake of the code's.

    Args:
        error: what was raised.
        network: the network's slot of the configuration: `class_path`, `init_args`, `dict_kwargs`.
    """
    message = str(error)
    if isinstance(error, UserError):
        return error
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # older hubs raise both
        return UserError(_without_types(message))
    if isinstance(error, KeyError) and "Wrong pretrained weights" in message:
        return UserError(f"--model.network.encoder_weights: {message.strip(chr(34))}")
    if isinstance(error, KeyError | RuntimeError) and _NO_ENCODER.search(message):
        return _unknown_encoder(str(_settings(network).get("encoder_name")))
    unknown_keyword = re.search(r"unexpected keyword argument '(\w+)'", message)
    if isinstance(error, TypeError) and unknown_keyword:
        return _unknown_keyword(unknown_keyword[1], network)
    if isinstance(error, OSError) and any(_settings(network).get(key) for key in PRETRAINED):
        return UserError(
            f"The pretrained weights of {_settings(network).get('encoder_name', 'the encoder')} "
            f"cannot be fetched ({' '.join(message.split())[:160]}).\n"
            "  Connect to the network once, or start from random weights: "
            "--model.network.encoder_weights null"
        )
    return None


def unused_encoder_settings(network: dict[str, Any]) -> str | None:
    """Complain of encoder settings that smp would drop in silence: only timm's encoders take any.

    Args:
        network: the network's slot of the configuration.
    """
    extra = network.get("dict_kwargs") or {}
    encoder = str(_settings(network).get("encoder_name") or "tu-")
    if not extra or encoder.startswith("tu-"):
        return None
    return (
        f"--model.network.dict_kwargs sets {', '.join(extra)}, but the encoder {encoder} takes no "
        f"settings. Use timm's (tu-{encoder}, say), or --model.network.dict_kwargs null."
    )


def _settings(network: dict[str, Any]) -> dict[str, Any]:
    return dict(network.get("init_args") or {})


def _without_types(message: str) -> str:
    """The message of a class in a slot, without the list of types that were tried for the slot."""
    # A reason of several lines goes on further to the right.
    reasons = re.findall(r"^( *)- (.+(?:\n\1 {3,}.*)*)", message, flags=re.MULTILINE)
    said = [reason for _, reason in reasons if not reason.startswith("Expected a <class 'None")]
    lines = [line.strip() for reason in said for line in reason.splitlines()]
    return "\n  ".join(lines) if "Does not validate against" in message and said else message


def _unknown_encoder(name: str) -> UserError | None:
    from pne_seg.networks.catalogue import check_encoder  # only on the way to an error

    try:
        check_encoder(name)
    except ValueError as error:
        return UserError(str(error))
    return None


def _unknown_keyword(name: str, network: dict[str, Any]) -> UserError | None:
    extra = network.get("dict_kwargs") or {}
    if name not in extra and name != "output_stride":
        return None
    encoder = _settings(network).get("encoder_name", "the encoder")
    if name == "output_stride":
        return UserError(
            f"The encoder {encoder} cannot be dilated to a smaller output stride, which this "
            "network needs. Use a ResNet, such as tu-resnet101c."
        )
    return UserError(
        f"--model.network.dict_kwargs.{name}: the encoder {encoder} knows no such setting. "
        "Correct its name, or leave all such settings out: --model.network.dict_kwargs null"
    )
