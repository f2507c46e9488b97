"""Commands that measure and describe runs, models and files."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from openunite.commands.options import (
    Command,
    OptionalFloat,
    OptionalInt,
    OptionalStr,
)


@dataclass(frozen=True)
class Evaluate(Command):
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
class Sweep(Command):
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
class Score(Command):
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
class ScoreImages(Command):
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
class Analyze(Command):
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
class Report(Command):
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
class Study(Command):
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
