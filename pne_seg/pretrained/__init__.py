"""Read weights of runs, files, exports, the Hugging Face hub and model zoos.

A source is located (`locating`), its tensors are read without running code (`reading`), and renamed
to this project's names (`mapping`, by the tables of `layouts`).
"""

from pne_seg.errors import UserError
from pne_seg.pretrained.locating import config_beside, locate
from pne_seg.pretrained.mapping import Weights, map_names
from pne_seg.pretrained.reading import classes_of_config, read_tensors

__all__ = ["Weights", "read_weights"]


def read_weights(source: str) -> Weights:
    """Read weights of this project, smp, mmsegmentation or transformers.

    Args:
        source: a file or folder (run, checkpoint, state dict, safetensors, export, saved network),
            `hf://OWNER/NAME[@REVISION][/FILE]`, or an http(s) address of a file.

    Raises:
        UserError: it cannot be found, fetched or read, or holds more than tensors and plain values.
    """
    file = locate(source)
    tensors, named = read_tensors(file, source)
    try:
        weights = map_names(tensors)
    except (RuntimeError, IndexError) as error:
        raise UserError(
            f"{source}: its names are those of another library, but the tensors have other "
            f"dimensions ({' '.join(str(error).split())[:120]}). Download it again."
        ) from error
    if weights.library == "transformers" and (config := config_beside(file, source)):
        named = classes_of_config(config)
    weights.class_names = named
    return weights
