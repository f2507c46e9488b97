"""The forms that `benchmarks.shards` compares hold the same files."""

import numpy as np
import pytest
from benchmarks.shards import FORMS, _make, _reader

from openunite.data.images.readers import read_source


def test_all_forms_give_the_same_bytes(tmp_path):
    pytest.importorskip("datasets")
    places, _ = _make(tmp_path / "forms", 12)
    found = {form: read_source(places[form], tmp_path) for form in FORMS}
    read = {form: _reader(form, source) for form, source in found.items()}
    first = [read[FORMS[0]](i) for i in range(12)]
    assert all(content[1:4] == b"PNG" for content in first)
    for form in FORMS:
        assert [read[form](i) for i in range(12)] == first
        assert np.array_equal(found[form].labels, np.arange(12) % 10)
