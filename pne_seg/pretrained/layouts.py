"""Tables from other libraries' names of tensors to this project's.

A layout has the keys that it is recognized by, and rules from a key's pattern to a name. Backbone
and heads are recognized separately, because published networks combine them freely. In heads, the
parts of a ConvModule (`conv`, `bn`) are numbered before (`mapping`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rule = tuple[str, str] | tuple[str, str, Callable[[Tensor], Tensor]]
"""Pattern of a whole key, the name here, and how the tensor is converted, if it is.

A name that ends in `[i]` is part i of a tensor that is concatenated along its first dimension; an
empty name drops a key that carries no weights.
"""


@dataclass(frozen=True)
class Layout:
    """Part of a network as another library names it.

    Attributes:
        library: which one.
        marks: patterns of keys; the layout is recognized where each of them occurs.
        rules: the first that fits a key is taken.
    """

    library: str
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]


_MMSEG, _TRANSFORMERS = "mmsegmentation", "transformers"
_ENCODER, _DECODER = "network.encoder.model", "network.decoder"


def _merging_from_unfold(tensor: Tensor) -> Tensor:
    """Permute (…, 4·C) from unfolding's channel × row × column to timm's column × row × channel."""
    parts: Tensor = tensor.unflatten(-1, (-1, 2, 2))
    return parts.transpose(-3, -1).flatten(-3)


def _swin_block(inside: str, name: str, blocks: str) -> Rule:
    return (
        rf"{blocks}\.(\d)\.blocks\.(\d+)\.{inside}\.(.+)",
        rf"{_ENCODER}.layers_\1.blocks.\2.{name}",
    )


_STAGE_NORMS: tuple[Rule, ...] = tuple(
    (
        rf"backbone\.hidden_states_norms\.stage{stage + 1}\.(.+)",
        rf"{_DECODER}.feature_norms.{stage}.\1",
    )
    for stage in range(4)
)

BACKBONES = (
    Layout(
        _MMSEG,  # Swin
        (r"backbone\.stages\.0\.blocks\.0\.attn\.w_msa\..+",),
        (
            (r".*\.relative_position_index", ""),
            (r"backbone\.patch_embed\.projection\.(.+)", rf"{_ENCODER}.patch_embed.proj.\1"),
            (r"backbone\.patch_embed\.norm\.(.+)", rf"{_ENCODER}.patch_embed.norm.\1"),
            _swin_block(r"attn\.w_msa", r"attn.\3", r"backbone\.stages"),
            _swin_block(r"ffn\.layers\.0\.0", r"mlp.fc1.\3", r"backbone\.stages"),
            _swin_block(r"ffn\.layers\.1", r"mlp.fc2.\3", r"backbone\.stages"),
            _swin_block(r"norm1", r"norm1.\3", r"backbone\.stages"),
            _swin_block(r"norm2", r"norm2.\3", r"backbone\.stages"),
            *(
                (
                    rf"backbone\.stages\.{stage}\.downsample\.(.+)",
                    rf"{_ENCODER}.layers_{stage + 1}.downsample.\1",
                    _merging_from_unfold,
                )
                for stage in range(3)
            ),
            (r"backbone\.norm(\d)\.(.+)", rf"{_DECODER}.feature_norms.\1.\2"),
        ),
    ),
    Layout(
        _MMSEG,  # ConvNeXt
        (r"backbone\.downsample_layers\.0\.0\..+", r"backbone\.stages\.0\.0\.depthwise_conv\..+"),
        (
            (r"backbone\.downsample_layers\.0\.(\d)\.(.+)", rf"{_ENCODER}.stem_\1.\2"),
            (
                r"backbone\.downsample_layers\.(\d)\.(\d)\.(.+)",
                rf"{_ENCODER}.stages_\1.downsample.\2.\3",
            ),
            *(
                (
                    rf"backbone\.stages\.(\d)\.(\d+)\.{theirs}(.*)",
                    rf"{_ENCODER}.stages_\1.blocks.\2.{ours}\3",
                )
                for theirs, ours in (
                    ("depthwise_conv", "conv_dw"),
                    ("pointwise_conv1", "mlp.fc1"),
                    ("pointwise_conv2", "mlp.fc2"),
                    ("norm", "norm"),
                    ("gamma", "gamma"),
                )
            ),
            (r"backbone\.norm(\d)\.(.+)", rf"{_DECODER}.feature_norms.\1.\2"),
        ),
    ),
    Layout(
        _MMSEG,  # HRNet
        (r"backbone\.stage4\.0\.branches\..+",),
        ((r"backbone\.(.+)", rf"{_ENCODER}.\1"),),
    ),
    Layout(
        _MMSEG,  # ResNet
        (r"backbone\.layer4\.0\.conv1\..+",),
        (
            (r"backbone\.stem\.7\.(.+)", rf"{_ENCODER}.bn1.\1"),
            (r"backbone\.stem\.(.+)", rf"{_ENCODER}.conv1.\1"),
            (r"backbone\.(.+)", rf"{_ENCODER}.\1"),
        ),
    ),
    Layout(
        _TRANSFORMERS,  # Swin
        (r"backbone\.encoder\.layers\.0\.blocks\.0\.attention\..+",),
        (
            (r".*\.relative_position_index", ""),
            (
                r"backbone\.embeddings\.patch_embeddings\.projection\.(.+)",
                rf"{_ENCODER}.patch_embed.proj.\1",
            ),
            (r"backbone\.embeddings\.norm\.(.+)", rf"{_ENCODER}.patch_embed.norm.\1"),
            *(
                _swin_block(theirs, ours, r"backbone\.encoder\.layers")
                for theirs, ours in (
                    (r"attention\.self\.query", r"attn.qkv.\3[0]"),
                    (r"attention\.self\.key", r"attn.qkv.\3[1]"),
                    (r"attention\.self\.value", r"attn.qkv.\3[2]"),
                    (r"attention\.self", r"attn.\3"),
                    (r"attention\.output\.dense", r"attn.proj.\3"),
                    (r"intermediate\.dense", r"mlp.fc1.\3"),
                    (r"output\.dense", r"mlp.fc2.\3"),
                    (r"layernorm_before", r"norm1.\3"),
                    (r"layernorm_after", r"norm2.\3"),
                )
            ),
            *(
                (
                    rf"backbone\.encoder\.layers\.{stage}\.downsample\.(.+)",
                    rf"{_ENCODER}.layers_{stage + 1}.downsample.\1",
                )
                for stage in range(3)
            ),
            *_STAGE_NORMS,
        ),
    ),
    Layout(
        _TRANSFORMERS,  # ConvNeXt
        (r"backbone\.encoder\.stages\.0\.layers\.0\.dwconv\..+",),
        (
            (r"backbone\.embeddings\.patch_embeddings\.(.+)", rf"{_ENCODER}.stem_0.\1"),
            (r"backbone\.embeddings\.layernorm\.(.+)", rf"{_ENCODER}.stem_1.\1"),
            (
                r"backbone\.encoder\.stages\.(\d)\.downsampling_layer\.(.+)",
                rf"{_ENCODER}.stages_\1.downsample.\2",
            ),
            *(
                (
                    rf"backbone\.encoder\.stages\.(\d)\.layers\.(\d+)\.{theirs}(.*)",
                    rf"{_ENCODER}.stages_\1.blocks.\2.{ours}\3",
                )
                for theirs, ours in (
                    ("dwconv", "conv_dw"),
                    ("pwconv1", "mlp.fc1"),
                    ("pwconv2", "mlp.fc2"),
                    ("layernorm", "norm"),
                    ("layer_scale_parameter", "gamma"),
                )
            ),
            *_STAGE_NORMS,
        ),
    ),
)

_CLASSIFIER = r"(?:conv_seg|classifier)"  # mmsegmentation's name, transformers' name

HEADS = (
    Layout(
        _MMSEG,  # UPerNet
        (r"decode_head\.psp_modules\..+", r"decode_head\.lateral_convs\..+"),
        (
            (rf"decode_head\.{_CLASSIFIER}\.(.+)", r"network.segmentation_head.0.\1"),
            (r"decode_head\.psp_modules\.(\d)\.(.+)", rf"{_DECODER}.psp.blocks.\1.\2"),
            (r"decode_head\.bottleneck\.(.+)", rf"{_DECODER}.psp.out_conv.\1"),
            # Listed from stride 4 up there, from stride 16 down here.
            *(
                (
                    rf"decode_head\.lateral_convs\.{level}\.(.+)",
                    rf"{_DECODER}.fpn_lateral_blocks.{2 - level}.conv_norm_relu.\1",
                )
                for level in range(3)
            ),
            *(
                (
                    rf"decode_head\.fpn_convs\.{level}\.(.+)",
                    rf"{_DECODER}.fpn_conv_blocks.{2 - level}.\1",
                )
                for level in range(3)
            ),
            (r"decode_head\.fpn_bottleneck\.(.+)", rf"{_DECODER}.fusion_block.\1"),
        ),
    ),
    Layout(
        _MMSEG,  # DeepLabV3
        (r"decode_head\.aspp_modules\.\d\.0\..+", r"decode_head\.image_pool\..+"),
        (
            (r"decode_head\.conv_seg\.(.+)", r"network.segmentation_head.0.\1"),
            (r"decode_head\.image_pool\.(.+)", rf"{_DECODER}.image_pooling.\1"),
            (r"decode_head\.aspp_modules\.(.+)", rf"{_DECODER}.branches.\1"),
            (r"decode_head\.bottleneck\.(.+)", rf"{_DECODER}.bottleneck.\1"),
        ),
    ),
    Layout(
        _MMSEG,  # OCRNet
        (r"decode_head\.1\.object_context_block\..+",),
        (
            (r"decode_head\.0\.convs\.0\.(.+)", rf"{_DECODER}.region_feature.\1"),
            (r"decode_head\.0\.conv_seg\.(.+)", rf"{_DECODER}.region_classifier.\1"),
            (r"decode_head\.1\.conv_seg\.(.+)", r"network.segmentation_head.0.\1"),
            (r"decode_head\.1\.bottleneck\.(.+)", rf"{_DECODER}.pixel_feature.\1"),
            (
                r"decode_head\.1\.object_context_block\.bottleneck\.(.+)",
                rf"{_DECODER}.fuse.\1",
            ),
            (
                r"decode_head\.1\.object_context_block\.(query|key|value|out)_project\.(.+)",
                rf"{_DECODER}.attention.\1.\2",
            ),
        ),
    ),
    Layout(
        _MMSEG,  # HRNetV2, there an FCN head on HRNet
        (r"decode_head\.convs\.0\..+", r"backbone\.stage4\..+"),
        (
            (r"decode_head\.conv_seg\.(.+)", r"network.segmentation_head.0.\1"),
            (r"decode_head\.convs\.0\.(.+)", rf"{_DECODER}.mix.\1"),
        ),
    ),
)

AUXILIARY: tuple[Rule, ...] = (
    (r"auxiliary_head\.convs\.0\.(.+)", r"auxiliary.head.\1"),
    (rf"auxiliary_head\.{_CLASSIFIER}\.(.+)", r"auxiliary.head.4.\1"),
)
