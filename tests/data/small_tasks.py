"""Both stages of a run on a small backbone."""

import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.reconstruction import MaskedReconstruction
from spectral_tl_bench.training.segmentation import Segmentation

TRAINING = override(preset("quick"), {"image_size": 32, "batch_size": 2, "decoder_channels": 8})


def reconstruction(method_name="spectralx", **options):
    torch.manual_seed(0)
    backbone = build_backbone("vit_micro", SENTINEL2)
    method = build_method(method_name, options)
    method.apply(backbone)
    method.begin_stage(backbone, "reconstruction")
    decoder = ReconstructionDecoder(192, 8, 13, width=32, depth=1, num_heads=2)
    return MaskedReconstruction(backbone, method, TRAINING, decoder)


def segmentation(method_name="frozen", kernel_size=None, options=None, **settings):
    torch.manual_seed(0)
    backbone = build_backbone("vit_micro", SENTINEL2)
    if kernel_size is not None:
        kernels, _ = backbone.tokenizer.kernels()
        kernels.data.copy_(torch.randn_like(kernels).sign() * kernel_size)
    method = build_method(method_name, options or {})
    method.apply(backbone)
    method.begin_stage(backbone, "segmentation")
    training = TRAINING.model_copy(update=settings)
    return Segmentation(Segmenter.of(backbone, 5, training), method, training, 5).eval()
