"""What can be asked on the command line, as frozen dataclasses without torch.

Docstrings and the strings below the fields are the help texts.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalSharding = Annotated[
    Literal["none", "full"] | None, arg(metavar="{none,full}", help_behavior_hint="")
]
OptionalStr = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]


@dataclass(frozen=True)
class Train:
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
    """One of: fashion, digits, images, cifar10, tiny_imagenet, imagenet256_b, imagenet256_l,
    imagenet256_xl; qm9, molecules, qm9_s; crystals, mp20_s; joint, joint_s; or a recipe of another
    package, by its name or as package.module:function."""
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
    """Choose sizes and steps so that training takes about this long on this machine."""
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
    sharding: OptionalSharding = None
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
class Sample:
    """Generate images, molecules or crystals: what the model was trained on.

    Commands to copy:
      openunite sample runs/quickstart --classes Bag Sneaker --output bags.png
      openunite sample runs/photos --num-samples 64 --seed 7 --guidance-scale 1.5
      openunite sample runs/quickstart-molecules --num-atoms 18 --output molecules.sdf
    """

    source: Positional[str]
    """A run, a pipeline folder, a packaged name or a hub id."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, used in turn; default all classes in turn."""
    condition: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")]] = ()
    """What samples are to be like, repeatable: gap=4.2, gap=4..5, formula=LiFePO4."""
    num_samples: Annotated[int, arg(aliases=("--num-images",))] = 16
    """Number of samples."""
    num_atoms: OptionalInt = None
    """Atoms of each molecule or crystal; default as often as in the training data."""
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
class Reconstruct:
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
class Encode:
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
class Convert:
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
class Evaluate:
    """Measure a model of images: samples and reconstructions, with a protocol card.

    Frechet distance, KID, precision, recall, a score in the manner of the inception score and class
    accuracy of samples, unguided beside guided; rFD, PSNR, SSIM, L1 and LPIPS of reconstructions.
    card-EXTRACTOR.json holds them with everything that decides them. A stopped evaluation goes on
    where it was; many processes (torchrun -m openunite.cli evaluate ...) give the same numbers.

    Molecules and crystals in files: openunite evaluate molecules --help.

    Commands to copy:
      openunite evaluate runs/quickstart
      openunite evaluate runs/photos --data photos/ --num-samples 10000 --guidance-scale 1.5
      openunite evaluate runs/imagenet --extractor inception --split train --num-samples 50000
      openunite evaluate runs/a/card-fashion.json --compare runs/b/card-fashion.json
    """

    source: Positional[str]
    """A run, a pipeline folder or a hub id; or a card.json, to print and to compare."""
    data: OptionalStr = None
    """Images as for `train`; default the run's."""
    split: Literal["test", "train"] = "test"
    """Real images that samples are compared with; reconstructions are always of the test images."""
    extractor: str = "auto"
    """Source of the features: fashion, efficientnet-lite0, inception, dinov2, or a name that
    another package registers; auto is fashion for the embedded images, else efficientnet-lite0."""
    extractor_weights: OptionalStr = None
    """File of weights of inception or efficientnet-lite0, folder or hub id of dinov2."""
    vgg16: OptionalStr = None
    """torchvision's vgg16-397923af.pth, for LPIPS; without it LPIPS is left out."""
    num_samples: int = 1000
    """Samples to draw of each kind; the paper's protocol has 50,000."""
    labels: Literal["balanced", "random"] = "balanced"
    """Classes in turn, or drawn at random."""
    guidance_scale: OptionalFloat = None
    """Of the guided samples; default the pipeline's. Unguided samples are always drawn, too."""
    num_inference_steps: OptionalInt = None
    """Solver steps; default the pipeline's."""
    solver: OptionalStr = None
    """As for `sample`."""
    weights: Literal["ema", "raw"] = "ema"
    """Of a run: the averaged weights, or those of its newest checkpoint."""
    precision: Literal["no", "bf16"] = "no"
    """float32, or matrix products in bfloat16."""
    seed: int = 0
    """Sample i uses seed + i."""
    batch_size: int = 250
    """Images at a time."""
    compare: OptionalStr = None
    """Another card.json: print how models and protocols differ; status 1 if the protocols do."""
    output: OptionalStr = None
    """The card to write; default card-EXTRACTOR.json in the run. Samples are kept beside it."""


@dataclass(frozen=True)
class Sweep:
    """Measure samples at several guidance scales and print the whole curve.

    On a split of its own: a random tenth of the training images (1,000 to 10,000), and seeds that
    `evaluate` does not use. Choose a scale here, then evaluate it once on the test images.

    Commands to copy:
      openunite sweep runs/quickstart
      openunite sweep runs/photos --scales 1 1.2 1.4 1.6 2 --num-samples 5000
    """

    source: Positional[str]
    """A run, a pipeline folder, a packaged name or a hub id."""
    scales: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
    """Guidance scales; 1 is no guidance."""
    data: OptionalStr = None
    """Images as for `train`; default the run's."""
    extractor: str = "auto"
    """As for `evaluate`."""
    extractor_weights: OptionalStr = None
    """As for `evaluate`."""
    num_samples: int = 1000
    """Samples at each scale."""
    num_inference_steps: OptionalInt = None
    """Solver steps; default the pipeline's."""
    solver: OptionalStr = None
    """As for `sample`."""
    batch_size: int = 250
    """Images at a time."""
    output: OptionalStr = None
    """The .json to write; default sweep-EXTRACTOR.json in the run."""


@dataclass(frozen=True)
class Score:
    """Score molecules or crystals in files, whoever made them, beside real, held-out ones.

    Commands to copy:
      openunite evaluate molecules new.sdf --reference test.sdf --train train.sdf
      openunite evaluate molecules new.xyz --reference qm9 --protocols edm adit --output scores.json
      openunite evaluate crystals new_cifs/ --reference test.csv
    """

    kind: Positional[Literal["molecules", "crystals"]]
    """What the files hold."""
    samples: Positional[str]
    """The structures to score: a file or a folder, as for `train`. What cannot be read counts as
    invalid; crystals are judged in the cells they have."""
    reference: str
    """Real, held-out structures; each metric is printed for them, too. Of qm9, and of a folder with
    train and test files, the test part; crystals are Niggli-reduced."""
    train: OptionalStr = None
    """What the model was trained on, for novelty; of such a source the training part."""
    pairs: bool = False
    """Structure i is a reconstruction of reference i: compare them, too."""
    protocols: tuple[str, ...] = ("edm",)
    """Of molecules: stability, edm, adit, posebusters."""
    output: OptionalStr = None
    """A .json to write."""


@dataclass(frozen=True)
class ScoreImages:
    """Judge images in files, whoever made them, beside real, held-out ones.

    Frechet distance, KID, precision, recall; with --train copies, and the numbers of real images.

    Commands to copy:
      openunite evaluate images new/ --reference test/ --train train/ --output scores.json
    """

    samples: Positional[str]
    """Images as for `train images`: a folder, parquet, tar shards, an .npz or a hub id."""
    reference: str
    """Real, held-out images; of a source with train and test images, the test images."""
    train: OptionalStr = None
    """What the model was trained on; of such a source the training images."""
    image_size: OptionalInt = None
    """Height and width to which all are brought; default the size of the samples."""
    patch_size: OptionalInt = None
    """Side of the model's patches at this size, to measure their seams."""
    extractor: str = "auto"
    """As for a model; auto goes by the reference."""
    extractor_weights: OptionalStr = None
    """As for a model."""
    output: OptionalStr = None
    """A protocol card (.json) to write, which `evaluate CARD --compare` takes."""


@dataclass(frozen=True)
class Analyze:
    """Look inside a run: figures and analysis.json, and for images a GIF of the sampling.

    Compares tokenizing and denoising layer by layer, probes the latents, follows samples from noise
    to image, looks for copied training images, and more. Molecules and crystals: training and
    weights only.

    Commands to copy:
      openunite analyze runs/quickstart
      openunite analyze runs/photos --num-images 200
      openunite analyze runs/shared --compare runs/separate
    """

    source: Positional[str]
    """A run."""
    num_images: int = 1000
    """Images to look at; twice as many train the probes, a tenth as many samples are drawn."""
    compare: OptionalStr = None
    """Another run on such images, for weights and layers."""
    output: OptionalStr = None
    """A folder; default RUN/analysis."""


@dataclass(frozen=True)
class Report:
    """Gather a run into one HTML page that needs neither network nor scripts.

    Settings, metrics, protocol cards, pictures, curves and, after `openunite analyze`, its figures.

    Commands to copy:
      openunite report runs/quickstart
      openunite report runs/quickstart --output quickstart.html
    """

    source: Positional[str]
    """A run."""
    output: OptionalStr = None
    """An .html to write; default RUN/report.html."""


@dataclass(frozen=True)
class Finetune:
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
class Study:
    """Run a grid of ablations and put a table of means and spreads beside the paper's.

    Each cell is a training run of its own; the same command again runs what is missing. The small
    grid takes about an hour on two cores, the full one twice as long.

    Commands to copy:
      openunite study ablations
      openunite study ablations --grid full --variants staged_equal_parameters rmsnorm
      openunite study ablations --grid full --data cifar10.npz --steps 20000 --processes 1
    """

    kind: Positional[Literal["ablations"]]
    """What to study."""
    grid: Literal["small", "full"] = "small"
    """Nine variants, or all eighteen."""
    variants: tuple[str, ...] = ()
    """Only these of the grid, and the default, with which they are compared."""
    output: OptionalStr = None
    """Folder of the runs and the table; default runs/ablations-GRID."""
    data: OptionalStr = None
    """Images as for `train images`; default the embedded Fashion-MNIST-mini. Runs on others are
    evaluated by `openunite evaluate`, with features of efficientnet-lite0."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every variant for each of them."""
    steps: OptionalInt = None
    """Optimizer steps of the default; two stages get as many as cost the same."""
    processes: int = 2
    """Runs side by side, each with one thread."""


@dataclass(frozen=True)
class Prepare:
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
class Info:
    """Describe a run, a pipeline folder, a hub id or a recipe: sizes, parameters, state.

    With --gpus: what a training run of a recipe or a run needs there, before it is started.

    Commands to copy:
      openunite info runs/quickstart
      openunite info imagenet256_b
      openunite info --recipe imagenet256_l --gpus 8 --gpu h100 --batch-size 1024
      openunite info runs/mine --gpus 2 --size B --flow-draws 14
    """

    source: Annotated[Positional[str], arg(metavar="[SOURCE]", help_behavior_hint="")] = ""
    """A run, a pipeline folder, a hub id, or the name of a recipe."""
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


@dataclass(frozen=True)
class Demo:
    """Serve a web page on which anybody can try models: sample, reconstruct, look inside.

    Without SOURCES it shows the models that come with the package. The page needs no network.

    Commands to copy:
      openunite demo
      openunite demo runs/photos runs/quickstart-molecules
    """

    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[SOURCES ...]", help_behavior_hint="")
    ] = ()
    """Runs, pipeline folders, packaged names or hub ids."""
    host: str = "127.0.0.1"
    """Address to serve at; any but this one lets other machines use the models."""
    port: OptionalInt = None
    """Port; default 7860, or the next free one."""


Command = (
    Train
    | Sample
    | Reconstruct
    | Encode
    | Evaluate
    | Score
    | ScoreImages
    | Sweep
    | Analyze
    | Report
    | Convert
    | Finetune
    | Study
    | Prepare
    | Info
    | Demo
)
# Options that `train` once had, and the fields of the settings that hold what they set.
MOVED = {
    "channels": ("modality_config.channels",),
    "flip": ("modality_config.flip",),
    "registers": ("model.num_registers",),
    "latent-channels": ("model.latent_channels",),
    "micro-batch-size": ("micro_batch_size",),
    "flow-draws": ("objective.flow_draws",),
    "flow-weight": ("objective.flow_weight",),
    "learning-rate": ("optimizer.muon_learning_rate", "optimizer.adamw_learning_rate"),
    "precision": ("precision",),
    "workers": ("data.workers",),
    "checkpoint-every": ("checkpoint_every",),
    "preview-every": ("preview_every",),
    "guidance-scale": ("sampling.guidance_scale",),
    "trackers": ("trackers",),
}
COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "encode": Encode,
    "evaluate": Evaluate,
    "sweep": Sweep,
    "analyze": Analyze,
    "report": Report,
    "convert": Convert,
    "finetune-decoder": Finetune,
    "study": Study,
    "prepare": Prepare,
    "info": Info,
    "demo": Demo,
}
