"""Parameter counts of the published networks, by number of classes."""

CLASSES = (19, 150, 171)

HRNETV2_W48 = (65_858_659, 65_953_110, 65_968_251)
HRNETV2_W18 = (9_640_849, 9_676_350, 9_682_041)
OCRNET_W48 = (70_371_446, 70_533_100, 70_559_014)
OCRNET_W18 = (12_080_036, 12_182_740, 12_199_204)
UPERNET_SWIN_T = (58_950_861, 59_018_064, 59_028_837)
UPERNET_SWIN_S = (80_268_765, 80_335_968, 80_346_741)
UPERNET_SWIN_B = (119_993_803, 120_061_006, 120_071_779)
DEEPLABV3_R101 = (84_740_467, 84_807_670, 84_818_443)

# Together with the auxiliary FCN head on stage 3.
UPERNET_SWIN_T_AUXILIARY = (59_840_992, 59_941_862, 59_958_032)
UPERNET_SWIN_S_AUXILIARY = (81_158_896, 81_259_766, 81_275_936)
UPERNET_SWIN_B_AUXILIARY = (121_178_846, 121_279_716, 121_295_886)
DEEPLABV3_R101_AUXILIARY = (87_105_158, 87_206_028, 87_222_198)

SWIN = "tu-swin_{}_patch4_window7_224"
SWIN_SETTINGS = {
    "decoder_channels": 512,
    "upsampling": 1,
    "strict_img_size": False,
    "always_partition": True,
}
"""What makes smp's UPerNet the published one on a Swin."""
