"""Tables from other libraries' names of tensors to this project's.

Backbone and heads are recognized separately, because published networks combine them freely. In
heads, the parts of a ConvModule (`conv`, `bn`) are numbered before.
"""

from typing import NamedTuple


class Layout(NamedTuple):
    """Part of a network as a library names it.

    `names` has a module's or tensor's name there, and here; what follows it in a key is kept. `{}`
    is a number, `[i]` part i of a tensor that is concatenated, an empty name drops what carries no
    weights. The first that fits is taken.
    """

    library: str
    marks: tuple[str, ...]  # for each, a key begins with it
    names: dict[str, str]


_MMSEG, _TRANSFORMERS = "mmsegmentation", "transformers"
_ENCODER, _DECODER = "network.encoder.model", "network.decoder"
_CLASSIFIER = "network.segmentation_head.0"
_FEATURE_NORMS = {
    "backbone.norm{}": f"{_DECODER}.feature_norms.{{}}",
    **{
        f"backbone.hidden_states_norms.stage{i + 1}": f"{_DECODER}.feature_norms.{i}"
        for i in range(4)
    },
}

_SWIN = _ENCODER + ".layers_{}.blocks.{}"
_CONVNEXT = _ENCODER + ".stages_{}.blocks.{}"
MMSEG_SWIN = Layout(
    _MMSEG,
    ("backbone.stages.0.blocks.0.attn.w_msa.",),
    {
        "backbone.patch_embed.projection": f"{_ENCODER}.patch_embed.proj",
        "backbone.patch_embed.norm": f"{_ENCODER}.patch_embed.norm",
        "backbone.stages.0.downsample": f"{_ENCODER}.layers_1.downsample",
        "backbone.stages.1.downsample": f"{_ENCODER}.layers_2.downsample",
        "backbone.stages.2.downsample": f"{_ENCODER}.layers_3.downsample",
        "backbone.stages.{}.blocks.{}.attn.w_msa.relative_position_index": "",
        "backbone.stages.{}.blocks.{}.attn.w_msa": f"{_SWIN}.attn",
        "backbone.stages.{}.blocks.{}.ffn.layers.0.0": f"{_SWIN}.mlp.fc1",
        "backbone.stages.{}.blocks.{}.ffn.layers.1": f"{_SWIN}.mlp.fc2",
        "backbone.stages.{}.blocks.{}.norm1": f"{_SWIN}.norm1",
        "backbone.stages.{}.blocks.{}.norm2": f"{_SWIN}.norm2",
        **_FEATURE_NORMS,
    },
)
BACKBONES = (
    MMSEG_SWIN,
    Layout(
        _MMSEG,  # ConvNeXt
        ("backbone.downsample_layers.0.0.", "backbone.stages.0.0.depthwise_conv."),
        {
            "backbone.downsample_layers.0.0": f"{_ENCODER}.stem_0",
            "backbone.downsample_layers.0.1": f"{_ENCODER}.stem_1",
            "backbone.downsample_layers.{}": f"{_ENCODER}.stages_{{}}.downsample",
            "backbone.stages.{}.{}.depthwise_conv": f"{_CONVNEXT}.conv_dw",
            "backbone.stages.{}.{}.pointwise_conv1": f"{_CONVNEXT}.mlp.fc1",
            "backbone.stages.{}.{}.pointwise_conv2": f"{_CONVNEXT}.mlp.fc2",
            "backbone.stages.{}.{}.norm": f"{_CONVNEXT}.norm",
            "backbone.stages.{}.{}.gamma": f"{_CONVNEXT}.gamma",
            **_FEATURE_NORMS,
        },
    ),
    Layout(_MMSEG, ("backbone.stage4.0.branches.",), {"backbone": _ENCODER}),  # HRNet
    Layout(
        _MMSEG,  # ResNet
        ("backbone.layer4.0.conv1.",),
        {
            "backbone.stem.7": f"{_ENCODER}.bn1",
            "backbone.stem": f"{_ENCODER}.conv1",
            "backbone": _ENCODER,
        },
    ),
    Layout(
        _TRANSFORMERS,  # Swin
        ("backbone.encoder.layers.0.blocks.0.attention.",),
        {
            "backbone.embeddings.patch_embeddings.projection": f"{_ENCODER}.patch_embed.proj",
            "backbone.embeddings.norm": f"{_ENCODER}.patch_embed.norm",
            "backbone.encoder.layers.0.downsample": f"{_ENCODER}.layers_1.downsample",
            "backbone.encoder.layers.1.downsample": f"{_ENCODER}.layers_2.downsample",
            "backbone.encoder.layers.2.downsample": f"{_ENCODER}.layers_3.downsample",
            "backbone.encoder.layers.{}.blocks.{}.attention.self.relative_position_index": "",
            "backbone.encoder.layers.{}.blocks.{}.attention.self.query": f"{_SWIN}.attn.qkv[0]",
            "backbone.encoder.layers.{}.blocks.{}.attention.self.key": f"{_SWIN}.attn.qkv[1]",
            "backbone.encoder.layers.{}.blocks.{}.attention.self.value": f"{_SWIN}.attn.qkv[2]",
            "backbone.encoder.layers.{}.blocks.{}.attention.self": f"{_SWIN}.attn",
            "backbone.encoder.layers.{}.blocks.{}.attention.output.dense": f"{_SWIN}.attn.proj",
            "backbone.encoder.layers.{}.blocks.{}.intermediate.dense": f"{_SWIN}.mlp.fc1",
            "backbone.encoder.layers.{}.blocks.{}.output.dense": f"{_SWIN}.mlp.fc2",
            "backbone.encoder.layers.{}.blocks.{}.layernorm_before": f"{_SWIN}.norm1",
            "backbone.encoder.layers.{}.blocks.{}.layernorm_after": f"{_SWIN}.norm2",
            **_FEATURE_NORMS,
        },
    ),
    Layout(
        _TRANSFORMERS,  # ConvNeXt
        ("backbone.encoder.stages.0.layers.0.dwconv.",),
        {
            "backbone.embeddings.patch_embeddings": f"{_ENCODER}.stem_0",
            "backbone.embeddings.layernorm": f"{_ENCODER}.stem_1",
            "backbone.encoder.stages.{}.downsampling_layer": f"{_ENCODER}.stages_{{}}.downsample",
            "backbone.encoder.stages.{}.layers.{}.dwconv": f"{_CONVNEXT}.conv_dw",
            "backbone.encoder.stages.{}.layers.{}.pwconv1": f"{_CONVNEXT}.mlp.fc1",
            "backbone.encoder.stages.{}.layers.{}.pwconv2": f"{_CONVNEXT}.mlp.fc2",
            "backbone.encoder.stages.{}.layers.{}.layernorm": f"{_CONVNEXT}.norm",
            "backbone.encoder.stages.{}.layers.{}.layer_scale_parameter": f"{_CONVNEXT}.gamma",
            **_FEATURE_NORMS,
        },
    ),
)

_OCR = "decode_head.1.object_context_block"
HEADS = (
    Layout(
        _MMSEG,  # UPerNet, of transformers too; levels from stride 4 up there, from 16 down here
        ("decode_head.psp_modules.", "decode_head.lateral_convs."),
        {
            "decode_head.conv_seg": _CLASSIFIER,
            "decode_head.classifier": _CLASSIFIER,
            "decode_head.psp_modules": f"{_DECODER}.psp.blocks",
            "decode_head.bottleneck": f"{_DECODER}.psp.out_conv",
            "decode_head.lateral_convs.0": f"{_DECODER}.fpn_lateral_blocks.2.conv_norm_relu",
            "decode_head.lateral_convs.1": f"{_DECODER}.fpn_lateral_blocks.1.conv_norm_relu",
            "decode_head.lateral_convs.2": f"{_DECODER}.fpn_lateral_blocks.0.conv_norm_relu",
            "decode_head.fpn_convs.0": f"{_DECODER}.fpn_conv_blocks.2",
            "decode_head.fpn_convs.1": f"{_DECODER}.fpn_conv_blocks.1",
            "decode_head.fpn_convs.2": f"{_DECODER}.fpn_conv_blocks.0",
            "decode_head.fpn_bottleneck": f"{_DECODER}.fusion_block",
        },
    ),
    Layout(
        _MMSEG,  # DeepLabV3
        ("decode_head.aspp_modules.0.0.", "decode_head.image_pool."),
        {
            "decode_head.conv_seg": _CLASSIFIER,
            "decode_head.image_pool": f"{_DECODER}.image_pooling",
            "decode_head.aspp_modules": f"{_DECODER}.branches",
            "decode_head.bottleneck": f"{_DECODER}.bottleneck",
        },
    ),
    Layout(
        _MMSEG,  # OCRNet
        (f"{_OCR}.",),
        {
            "decode_head.0.convs.0": f"{_DECODER}.region_feature",
            "decode_head.0.conv_seg": f"{_DECODER}.region_classifier",
            "decode_head.1.conv_seg": _CLASSIFIER,
            "decode_head.1.bottleneck": f"{_DECODER}.pixel_feature",
            f"{_OCR}.bottleneck": f"{_DECODER}.fuse",
            f"{_OCR}.query_project": f"{_DECODER}.attention.query",
            f"{_OCR}.key_project": f"{_DECODER}.attention.key",
            f"{_OCR}.value_project": f"{_DECODER}.attention.value",
            f"{_OCR}.out_project": f"{_DECODER}.attention.out",
        },
    ),
    Layout(
        _MMSEG,  # HRNetV2, there an FCN head on HRNet
        ("decode_head.convs.0.", "backbone.stage4."),
        {"decode_head.conv_seg": _CLASSIFIER, "decode_head.convs.0": f"{_DECODER}.mix"},
    ),
)

AUXILIARY = {
    "auxiliary_head.convs.0": "auxiliary.head",
    "auxiliary_head.conv_seg": "auxiliary.head.4",
    "auxiliary_head.classifier": "auxiliary.head.4",
}
