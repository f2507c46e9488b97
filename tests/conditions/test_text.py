"""Text: words learned from captions, vectors of a file, and a frozen encoder."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from openunite.conditions.base import fit, guess, parse, read
from openunite.conditions.text.base import Text, words_of

pytest.importorskip("tokenizers")

COLORS = ("red", "blue", "green", "grey")
CAPTIONS = [
    f"A {c}  {x} at the {p}" for c in COLORS for x in ("bag", "boot") for p in ("top", "left")
]
PLAIN = fit("caption", "text", CAPTIONS)


def module(plain: dict[str, Any] = PLAIN, width: int = 16) -> Text:
    torch.manual_seed(0)
    kind, settings = read("caption", plain)
    made = kind(settings, width)
    assert isinstance(made, Text)
    return made


def rows(*texts: str, plain: dict[str, Any] = PLAIN) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.tensor([parse("caption", plain, text) for text in texts])


def test_captions_are_recognized_as_text() -> None:
    assert guess("caption", CAPTIONS) == "text"
    assert guess("name", [f"person {i}" for i in range(9)]) == "text"
    assert guess("color", list(COLORS) * 4) == "category"


def test_words_are_parted_without_regard_to_case() -> None:
    assert words_of("A Red-ish BAG, 2 ﬁsh") == ["a", "red", "-", "ish", "bag", ",", "2", "fish"]


def test_each_word_that_comes_again_is_one_piece() -> None:
    assert PLAIN["length"] == 6
    first, second = rows("a red bag at the top", "A RED bag at the Top")
    assert torch.equal(first, second)
    assert int((first > 0).sum()) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse("caption", PLAIN, "red boot")


def test_a_rare_word_is_a_warning_with_the_nearest_one() -> None:
    with pytest.warns(UserWarning, match="the word 'bagg' occurs at most once .* nearest is 'bag'"):
        parse("caption", PLAIN, "a red bagg")
    with pytest.warns(UserWarning, match="has 7 parts, of which the model reads the first 6"):
        assert len(parse("caption", PLAIN, "a red bag at the top left")) == 6


def test_a_word_that_training_never_saw_is_spelled_by_letters_or_left_out() -> None:
    pieces = PLAIN["pieces"].split()
    plain = fit("caption", "text", [*CAPTIONS, "a gabt"])
    spelled = [plain["pieces"].split()[int(i) - 1] for i in rows("gabt", plain=plain)[0] if i > 0]
    assert "".join(spelled) == "▁gabt"
    assert len(spelled) > 1
    assert rows("зонт").sum() == 0
    assert len(pieces) == len({word for text in CAPTIONS for word in words_of(text)})


def test_what_is_no_text_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="condition caption: expected text, got"):
        parse("caption", PLAIN, ("a", "b"))
    with pytest.raises(ValueError, match="condition caption: expected text, got"):
        fit("caption", "text", [["a red bag"], ["a blue bag"]])


def test_tokens_depend_on_the_words_and_not_on_the_places_behind_them() -> None:
    text = module()
    torch.nn.init.normal_(text.word_positions)
    tokens, stands = text(rows("red bag", "bag red", ""))
    assert stands.sum(dim=1).tolist() == [2, 2, 0]
    assert bool(tokens.isfinite().all())
    assert (tokens[0, 0] - tokens[1, 1]).abs().max() > 1e-3
    longer = module({**PLAIN, "length": 9})
    state = text.state_dict()
    grown = torch.cat([state["word_positions"], torch.randn(3, 16)])
    longer.load_state_dict({**state, "word_positions": grown})
    others, _ = longer(rows("red bag", plain={**PLAIN, "length": 9}))
    torch.testing.assert_close(others[0, :2], tokens[0, :2])


def test_training_shows_a_third_of_the_captions_in_part() -> None:
    text = module()
    values = rows("a red bag at the top").expand(6000, -1)
    generator = torch.Generator().manual_seed(0)
    shown = text.blur(values, torch.rand(6000, text.uniforms, generator=generator))
    counts = (shown > 0).sum(dim=1)
    assert bool(((shown > 0).int().diff(dim=1) <= 0).all())  # no gaps
    whole = float((counts == 6).float().mean())
    assert abs(whole - (2 / 3 + 1 / 3 / 7)) < 0.03  # the number of words is uniform from 0 to 6
    alone = shown[counts == 1][:, 0].unique()
    assert torch.equal(alone, values[0].unique())
    pairs = shown[counts == 2][:, :2]
    order = {float(v): i for i, v in enumerate(values[0])}
    assert all(order[float(a)] < order[float(b)] for a, b in pairs)


def test_pieces_of_one_word_are_left_out_together() -> None:
    plain = {**PLAIN, "pieces": "▁a b ▁c", "length": 5}
    text, values = module(plain), rows("ab c ab", plain=plain)
    assert values.tolist() == [[1.0, 2.0, 3.0, 1.0, 2.0]]
    uniform = torch.rand(500, text.uniforms, generator=torch.Generator().manual_seed(1))
    shown = {tuple(row) for row in text.blur(values.expand(500, -1), uniform).long().tolist()}
    words = {(), (1, 2), (3,), (1, 2, 3), (3, 1, 2), (1, 2, 1, 2), (1, 2, 3, 1, 2)}
    assert shown == {(*row, *[0] * (5 - len(row))) for row in words}


def test_learned_pieces_are_the_same_in_any_order_of_the_captions() -> None:
    pieces = fit("caption", "text", CAPTIONS[::-1])["pieces"]
    assert set(pieces.split()) == set(PLAIN["pieces"].split())


# ---- vectors of a file --------------------------------------------------------------------------


def table(path: Path) -> Path:
    words = ["a", "red", "blue", "bag", "boot", "at", "the", "top"]
    vectors = np.random.default_rng(0).normal(size=(len(words), 5)).astype(np.float32)
    if path.suffix == ".npz":
        np.savez(path, words=np.array(words), vectors=vectors)
    else:
        lines = [
            f"{w} {' '.join(map(str, v))}" for w, v in zip(words, vectors.tolist(), strict=True)
        ]
        path.write_text("\n".join([f"{len(words)} 5"] * (path.suffix == ".vec") + lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["t.npz", "t.vec", "t.txt"])
def test_a_table_of_vectors_is_read(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / name)
    plain = fit("caption", "static", CAPTIONS, str(path))
    assert (plain["table"], plain["dim"], plain["length"]) == (str(path), 5, 6)
    text = module(plain)
    assert not any("table" in key for key in text.state_dict())
    tokens, stands = text(rows("red bag", "blue bag", plain=plain))
    assert stands.sum(dim=1).tolist() == [2, 2]
    assert (tokens[0, 0] - tokens[1, 0]).abs().max() > 1e-3
    with pytest.warns(UserWarning, match="the word 'bags' has no vector in .* nearest is 'bag'"):
        parse("caption", plain, "red bags")


def test_another_table_than_in_training_is_refused(tmp_path: Path) -> None:
    plain = fit("caption", "static", CAPTIONS, str(table(tmp_path / "t.txt")))
    with pytest.raises(ValueError, match="another table than the model was trained with"):
        parse("caption", {**plain, "checksum": "0"}, "red")
    with pytest.raises(FileNotFoundError, match="no table of vectors at"):
        fit("caption", "static", CAPTIONS, str(tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_text("a 1 2\nb 1\n")
    with pytest.raises(ValueError, match="line 2 has 1 numbers, not 2"):
        fit("caption", "static", CAPTIONS, str(tmp_path / "bad.txt"))
    with pytest.raises(ValueError, match="kind static needs its table: caption=static:PATH"):
        fit("caption", "static", CAPTIONS)


def test_a_matrix_beside_a_tokenizer_is_read(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[UNK]", "a", "red", "bag"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    save_file({"embedding": torch.randn(4, 6)}, tmp_path / "t.safetensors")
    plain = fit("caption", "static", CAPTIONS, str(tmp_path / "t.safetensors"))
    assert rows("a RED bag", plain=plain).tolist() == [[2.0, 3.0, 4.0, 0.0, 0.0, 0.0]]


def test_the_table_of_wordllama_is_read() -> None:
    pytest.importorskip("wordllama")
    plain = fit("caption", "static", CAPTIONS, "wordllama")
    assert (plain["table"], plain["dim"]) == ("wordllama", 256)
    tokens, _ = module(plain)(rows("red bag", plain=plain))
    assert bool(tokens.isfinite().all())


# ---- a frozen encoder ---------------------------------------------------------------------------


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny encoder that was never trained, as a folder of transformers."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "bag", "at", "the", "top"]
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "it" / "vocab.txt")).save_pretrained(tmp_path / "it")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "it")
    return tmp_path / "it"


def test_a_frozen_encoder_reads_captions_and_keeps_what_it_said(encoder: Path) -> None:
    from openunite.conditions.text import transformer

    plain = fit("caption", "hf", CAPTIONS, str(encoder))
    assert (plain["encoder"], plain["dim"]) == (str(encoder), 8)
    text = module(plain)
    assert not any("network" in key for key in text.state_dict())
    values = rows("a red bag", "the top", "a red bag", plain=plain)
    tokens, stands = text(values)
    assert torch.equal(tokens[0], tokens[2])
    assert stands.sum(dim=1).tolist() == [5, 4, 5]
    held = transformer._load(str(encoder))
    runs = []
    held.network.register_forward_hook(lambda *args: runs.append(1))
    again, _ = text(values[1:])
    torch.testing.assert_close(again, tokens[1:])
    assert runs == []
    with pytest.raises(ValueError, match="other weights than the encoder that the model was"):
        parse("caption", {**plain, "checksum": "0"}, "red")


def test_an_encoder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(FileNotFoundError, match="could not be loaded as an encoder of text"):
        fit("caption", "hf", CAPTIONS, str(tmp_path / "none"))
