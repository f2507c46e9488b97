"""The wide picture at the top of README: samples of several models side by side.

    python tools/front_picture.py docs/pictures/front.png fashion runs/composed molecules crystals

Sources are runs, pipeline folders or the names of packaged weights. Samples are those of the first
seeds, not chosen.
"""

import sys

from PIL import Image

from openunite import sample
from openunite.drawing.structures import structure_grid
from openunite.runs import load_pipeline

HEIGHT, ROWS, GAP = 360, 4, 12


def main(target: str, *sources: str) -> None:
    blocks = [block(source) for source in sources]
    width = sum(b.width for b in blocks) + GAP * (len(blocks) - 1)
    sheet, x = Image.new("RGB", (width, HEIGHT), "white"), 0
    for part in blocks:
        sheet.paste(part, (x, 0))
        x += part.width + GAP
    sheet.save(target)


def block(source: str) -> Image.Image:
    """A square of samples: 4 x 4 images, or 2 x 2 structures."""
    pipeline = load_pipeline(source)
    if not hasattr(pipeline, "elements"):
        count, side = ROWS * ROWS, HEIGHT // ROWS
        names = pipeline.class_names
        labels = [names[i % len(names)] for i in range(count)] if names else None
        pictures = pipeline(labels, num_images=count, seeds=range(count))
        square = Image.new("RGB", (HEIGHT, HEIGHT), "white")
        for i, picture in enumerate(pictures):
            big = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            square.paste(big, (i % ROWS * side, i // ROWS * side))
        return square
    return structure_grid(sample(pipeline, 4), 2).convert("RGB").resize((HEIGHT, HEIGHT))


if __name__ == "__main__":
    main(*sys.argv[1:])
