"""Images: patches in, pixels out."""

from openunite.catalog import ModalitySpec

_HERE = "openunite.modalities.image"
SPEC = ModalitySpec(
    name="image",
    modality=f"{_HERE}.tokens:ImageModality",
    pipeline=f"{_HERE}.pipeline:ImagePipeline",
    task=f"{_HERE}.task:ImageTask",
    recipes={
        name: f"{_HERE}.recipes:{name}"
        for name in (
            "fashion",
            "composed",
            "digits",
            "images",
            "cifar10",
            "tiny_imagenet",
            "imagenet256_b",
            "imagenet256_l",
            "imagenet256_xl",
        )
    },
)
