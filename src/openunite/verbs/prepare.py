"""`openunite prepare`: write resized copies of images into tar shards."""

from pathlib import Path

from openunite.commands import Prepare
from openunite.data.images.prepare import prepare_images
from openunite.progress import say
from openunite.texts import printable


def prepare(command: Prepare) -> None:
    """Run `openunite prepare`, resuming earlier work, and print counts and skipped images."""
    done = prepare_images(
        command.source,
        Path(command.output),
        size=command.size,
        channels=command.channels,
        jpeg_quality=command.jpeg_quality,
        max_bad_share=command.max_bad_share,
    )
    for item in done.skipped:
        say(printable(f"skipped {item.name}: {item.reason}"), err=True)
    for note in done.notes:
        say(printable(f"note: {note}"), err=True)
    say(
        f"{command.output}: {done.num_images} images of {command.size} x {command.size} pixels, "
        f"{len(done.skipped)} skipped; {done.written} shards written, {done.kept} verified"
    )
    say(f"  openunite train images --data {command.output} --image-size {command.size}")
