"""Values under one name each, and the vocabularies of the kinds of data."""

import pytest

from openunite.evaluation.measured import VOCABULARIES, Measured, flatten, vocabulary


def test_flat_names_have_the_prefix_of_their_column_and_suffixes_for_error_and_total() -> None:
    columns = {
        "samples": {"validity": Measured(0.5, 0.1, 40), "count": Measured(3)},
        "rebuilt": {"rmsd": Measured(0.25, 0.0)},
    }
    assert flatten(columns, {"samples": "sample_", "rebuilt": "recon_"}, ["rmsd"]) == {
        "sample_validity": 0.5,
        "sample_validity_se": 0.1,
        "sample_validity_of": 40,
        "sample_count": 3,
        "rmsd": 0.25,
        "rmsd_se": 0.0,
    }


@pytest.mark.parametrize("kind", VOCABULARIES.builtins)
def test_every_metric_has_one_row_and_a_form_that_prints_numbers(kind: str) -> None:
    names = [row.name for row in vocabulary(kind).metrics]
    assert len(set(names)) == len(names) > 5
    assert all(row.form.format(0.5) for row in vocabulary(kind).metrics)


def test_the_flat_names_of_images_are_those_of_metrics_json() -> None:
    names = ("fd", "rfd", "class_accuracy", "psnr_db", "l1", "seams", "partly_clear")
    column = {name: Measured(1.0) for name in names}
    sets = ("unguided", "guided", "reconstructions", "real images", "blurred images", "reference")
    assert set(vocabulary("images").flat(dict.fromkeys(sets, column))) == {
        *("recon_psnr_db", "recon_l1", "fd_samples", "fd_samples_guided", "fd_recon", "fd_blur"),
        *("fd_real", "sample_accuracy", "sample_accuracy_guided", "classifier_test_accuracy"),
        *("seams_samples", "seams_samples_guided", "seams_recon", "seams_real"),
        *("partly_clear_samples", "partly_clear_samples_guided", "partly_clear_recon"),
    }
