"""Commands that make models, samples and data."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from openunite.commands.options import (
    Command,
    OptionalFloat,
    OptionalInt,
    OptionalStr,
)


@dataclass(frozen=True)
class Train(Command):
    """Train one network to tokenize and to generate, from scratch, in one stage.

    The same command again resumes a stopped run; a finished one is evaluated again only if its
    metrics.json is deleted. Everything else is a field of config.yaml: name it with --set, or copy
    the file, edit it, and pass it with --config.

    Commands to copy:
      openunite train fashion
      openunite train images --data photos/ --minutes 30 --output runs/photos
      openunite train images --data photos/ --image-size 64 --patch-size 8 --steps 20000
      openunite train --config runs/photos/config.yaml --output runs/again
    """

    recipe: Annotated[Positional[str], arg(metavar="[RECIPE]", help_behavior_hint="")] = ""
    """One of: fashion, composed, digits, images, cifar10, tiny_imagenet, imagenet256_b,
    imagenet256_l, imagenet256_xl; qm9, molecules, qm9_s; crystals, mp20_s; joint, joint_s; or a
    recipe of another package, by its name or as package.module:function."""
    config: OptionalStr = None
    """A config.yaml to run instead of a recipe."""
    output: OptionalStr = None
    """Run folder; default runs/RECIPE."""
    data: OptionalStr = None
    """A folder (of class folders, or flat), a parquet file or hub id, an .npz, or the name of an
    embedded set; for molecules SDF or xyz, for crystals CIF or CSV, files or folders; for both
    MOLECULES,CRYSTALS."""
    max_bad_share: OptionalFloat = None
    """Share of unusable images or structures that stops the run."""
    max_atoms: OptionalInt = None
    """Atoms that a molecule or crystal may have; default 20 for crystals, else any number."""
    minutes: OptionalFloat = None
    """Choose sizes and steps so that the whole command takes about this long on this machine."""
    size: OptionalStr = None
    """Model size: nano, micro, tiny, S, B, Medium, L or XL."""
    image_size: OptionalInt = None
    """Height and width in pixels; images are resized and center-cropped."""
    patch_size: OptionalInt = None
    """Side of a patch in pixels."""
    steps: OptionalInt = None
    """Optimizer steps."""
    batch_size: OptionalInt = None
    """Images per optimizer step, over all processes."""
    sharding: Annotated[
        Literal["none", "full"] | None, arg(metavar="{none,full}", help_behavior_hint="")
    ] = None
    """full: weights, optimizer and EMA in shares over the processes (FSDP2); the same numbers."""
    compile: bool = False
    """torch.compile of the step; needs a C++ compiler, for NVIDIA GPUs Triton."""
    seed: OptionalInt = None
    """Seed of everything random."""
    init_from: OptionalStr = None
    """Start from the weights of a run, a pipeline folder or a hub id."""
    condition: UseAppendAction[
        Annotated[tuple[str, ...], arg(metavar="NAME[=KIND][:COLUMN]", help_behavior_hint="")]
    ] = ()
    """A column of the data to generate by, repeatable: density, gap=number:band_gap, formula."""
    set: Annotated[tuple[str, ...], arg(metavar="FIELD=VALUE", help_behavior_hint="")] = ()
    """Any other field of config.yaml: --set model.depth=6 optimizer.warmup_steps=100."""
    dry_run: bool = False
    """Print the resolved settings and parameter counts, allocate nothing, train nothing."""


@dataclass(frozen=True)
class Sample(Command):
    """Generate images, molecules or crystals: what the model was trained on.

    Commands to copy:
      openunite sample runs/quickstart --classes Bag Sneaker --output bags.png
      openunite sample runs/photos --num-samples 64 --seed 7 --guidance-scale 1.5
      openunite sample runs/quickstart-molecules --num-atoms 18 --output molecules.sdf
      openunite sample runs/photos --observed torn.png --mask known.png
    """

    source: Positional[str]
    """A run, a pipeline folder, a packaged name or a hub id."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, used in turn; default all classes in turn."""
    condition: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")]] = ()
    """What samples are to be like, repeatable: gap=4.2, gap=4..5, formula=LiFePO4, caption=bag."""
    num_samples: Annotated[int, arg(aliases=("--num-images",))] = 16
    """Number of samples."""
    num_atoms: OptionalInt = None
    """Atoms of each molecule or crystal; default as often as in the training data."""
    observed: OptionalStr = None
    """An image to complete, by a model trained with --set objective.partial_share=0.34."""
    mask: OptionalStr = None
    """An image of that size, white where pixels of the observed one are known; these stay."""
    output: OptionalStr = None
    """A .png (a grid of 256 at most; default samples.png); for images an .npz (arrays `images` and
    `labels`) or a folder for one file per image; for molecules .sdf or .xyz, for crystals .cif or
    .xyz. The same command resumes where it was stopped."""
    seed: int = 0
    """Sample i uses seed + i."""
    guidance_scale: OptionalFloat = None
    """1 is no guidance; default the pipeline's."""
    num_inference_steps: OptionalInt = None
    """Solver steps; default the pipeline's."""
    solver: OptionalStr = None
    """euler, heun, multistep, sde, dopri5 (the paper's adaptive protocol) or one of another
    package; default the pipeline's."""
    batch_size: int = 64
    """Samples at a time; does not change any of them."""


@dataclass(frozen=True)
class Reconstruct(Command):
    """Encode and decode; writes a picture with inputs above outputs and prints the error.

    Molecules and crystals can go into a file instead.

    Commands to copy:
      openunite reconstruct runs/photos a.jpg b.png --output pairs.png
      openunite reconstruct runs/photos photos/ --num-samples 32
      openunite reconstruct runs/quickstart-molecules my.sdf --output again.sdf
    """

    source: Positional[str]
    """A run, a pipeline folder, a packaged name or a hub id."""
    files: Positional[tuple[str, ...]]
    """Files or folders: images, SDF or xyz, CIF."""
    num_samples: Annotated[int, arg(aliases=("--num-images",))] = 32
    """Maximum number of data points to use."""
    output: OptionalStr = None
    """A .png (default reconstructions.png); for molecules also .sdf or .xyz, for crystals .cif or
    .xyz: the outputs alone."""


@dataclass(frozen=True)
class Encode(Command):
    """Turn images into latents: an .npz with `latents` (N, K, C) and `files`.

    Molecules and crystals: `latents` (atoms, C), `num_atoms` of each and `names`.

    Commands to copy:
      openunite encode runs/photos photos/ --output latents.npz
    """

    source: Positional[str]
    """A run, a pipeline folder, a packaged name or a hub id."""
    files: Positional[tuple[str, ...]]
    """Files or folders: images, SDF or xyz, CIF."""
    output: str = "latents.npz"
    """The .npz to write."""
    batch_size: int = 64
    """Images at a time; does not change any latent."""


@dataclass(frozen=True)
class Convert(Command):
    """Turn a checkpoint of the released format into a pipeline folder.

    Pickles are read with weights_only: nothing in them is executed. The in-context start block is
    not in a checkpoint; for sizes other than B, name it, and the decoder size.

    Commands to copy:
      openunite convert unite_b.pt pipelines/unite_b
      openunite convert unite_l.pt pipelines/unite_l --context-start 8 --decoder-heads 12
    """

    source: Positional[str]
    """A .pt / .pth / .safetensors file of the released format."""
    output: Positional[str]
    """The pipeline folder to write."""
    weights: Literal["ema", "raw"] = "ema"
    """Which of the two sets of weights, where the file has both."""
    context_start: OptionalInt = None
    """Block before which the in-context tokens enter."""
    decoder_heads: OptionalInt = None
    """Attention heads of the decoder."""


@dataclass(frozen=True)
class Finetune(Command):
    """Train the decoder of a finished image run on, against a discriminator: sharper images.

    The encoder stays as it is, and with it all latents and what is generated in them; the
    discriminator starts from the encoder. The result is a run of its own.

    Commands to copy:
      openunite finetune-decoder runs/quickstart
    """

    source: Positional[str]
    """A finished run."""
    output: OptionalStr = None
    """Run folder; default SOURCE-decoder."""
    steps: OptionalInt = None
    """Optimizer steps; default a fifth of the run's."""
    adversarial_weight: float = 0.1
    """Weight of the discriminator's score beside the reconstruction loss."""


@dataclass(frozen=True)
class Prepare(Command):
    """Write resized copies of images as tar shards, for `train --data` at that size.

    The same command again goes on after an interruption, and verifies what is finished. Copies are
    PNG: a run on them sees the pixels, the order and the held-out images of a run on the source.

    Commands to copy:
      openunite prepare photos/ photos256/ --size 256
      openunite prepare ILSVRC/imagenet-1k imagenet256/ --size 256 --jpeg-quality 95
    """

    source: Positional[str]
    """What `train images --data` takes: a folder, parquet, tar shards, an .npz, a hub id."""
    output: Positional[str]
    """The folder to write, empty or begun by this command."""
    size: int = 256
    """Height and width in pixels."""
    channels: OptionalInt = None
    """1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; default what the images need."""
    jpeg_quality: OptionalInt = None
    """JPEG of this quality (1 to 100) instead of PNG: smaller, not the same pixels."""
    max_bad_share: float = 0.001
    """Share of unreadable images that stops it."""


@dataclass(frozen=True)
class Info(Command):
    """Describe a run, a pipeline folder, a hub id or a recipe: sizes, parameters, state.

    With --gpus: what a training run of a recipe or a run needs there, before it is started.

    Commands to copy:
      openunite info runs/quickstart
      openunite info imagenet256_b
      openunite info --recipe imagenet256_l --gpus 8 --gpu h100 --batch-size 1024
      openunite info runs/mine --gpus 2 --size B --flow-draws 14
    """

    source: Annotated[Positional[str], arg(metavar="[SOURCE]", help_behavior_hint="")] = ""
    """A run, a pipeline folder, a packaged name, a hub id, or the name of a recipe."""
    recipe: OptionalStr = None
    """The name of a recipe; the same as giving it as SOURCE."""
    gpus: OptionalInt = None
    """Plan for so many GPUs: FLOPs, memory, time, and what to change if it does not fit."""
    gpu: Literal["h200", "h100", "a100", "4090"] = "h200"
    """Their kind."""
    size: OptionalStr = None
    """Plan for this model size instead: nano, micro, tiny, S, B, Medium, L or XL."""
    batch_size: OptionalInt = None
    """Samples per optimizer step, over all GPUs."""
    flow_draws: OptionalInt = None
    """Flow draws per data point, k."""
    mfu: float = 0.4
    """Share of the peak that training reaches; assumed."""
