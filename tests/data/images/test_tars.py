"""Tar shards: which members are a sample, and what a shard may not be."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.data.images.samples import SMALL, held_out, message, picture

from openunite.data.images.dataset import ImageData, open_images


def png(seed: int) -> bytes:
    content = io.BytesIO()
    picture(seed).save(content, "PNG")
    return content.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def images(count: int, name: str = "{}.png", first: int = 0) -> dict[str, bytes]:
    return {name.format(i): png(first + i) for i in range(count)}


def size(data: ImageData) -> int:
    return len(data.train) + len(data.test)


def test_names_with_dots_keep_every_image(tmp_path):
    tar(tmp_path / "t" / "a.tar", images(6, "cam0.frame{}.png"))
    data = open_images(tmp_path / "t", **SMALL)
    assert size(data) == 6
    assert data.notes == ("names hold dots: each image is a sample of its own",)


def test_names_with_dots_keep_their_classes(tmp_path):
    labels = {f"cam0.frame{i}.cls": b"%d" % (i % 2) for i in range(6)}
    tar(tmp_path / "t" / "a.tar", images(6, "cam0.frame{}.png") | labels)
    data = open_images(tmp_path / "t", **SMALL)
    assert (size(data), data.num_classes) == (6, 2)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"0.png": png(0), "0.jpg": png(1)}, "0.png and 0.jpg"),
        (
            {"0.left.png": png(0), "0.right.png": png(1), "0.cls": b"1"},
            "0.left.png and 0.right.png",
        ),
        ({"0.png": png(0), "0.cls": b"1", "0.other.cls": b"2"}, "0.cls and 0.other.cls"),
    ],
)
def test_two_members_of_one_sample_are_named(tmp_path, members, named):
    tar(tmp_path / "t" / "a.tar", members)
    assert f"two members of one sample, {named}" in message(tmp_path / "t")


def test_one_name_twice_is_refused(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(3))
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("1.png")
        file.addfile(member)
    assert "two members of one sample, 1.png and 1.png" in message(tmp_path / "t")


def test_every_cut_of_a_shard_is_noticed(tmp_path):
    whole = tar(tmp_path / "whole.tar", images(4)).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for at in range(512, end + 512, 256):
        (tmp_path / "t").mkdir(exist_ok=True)
        (tmp_path / "t" / "a.tar").write_bytes(whole[:at])
        assert "a.tar is no plain tar file" in message(tmp_path / "t")
    (tmp_path / "t" / "a.tar").write_bytes(whole[:end])
    assert "run `truncate -s +1024 a.tar`" in message(tmp_path / "t")
    (tmp_path / "t" / "a.tar").write_bytes(whole[:end] + bytes(1024))  # what the sentence says
    assert size(open_images(tmp_path / "t", **SMALL)) == 4


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(4))
    content = bytearray(path.read_bytes())
    at = content.index(b"2.png")
    content[at : at + 5] = b"\xff" * 5  # the checksum no longer fits
    path.write_bytes(content)
    assert "no end mark" in message(tmp_path / "t")


def test_joined_by_cat_is_refused(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(4))
    path.write_bytes(path.read_bytes() * 2)
    assert "more behind its end mark" in message(tmp_path / "t")


def test_what_macos_adds_is_ignored(tmp_path):
    litter = {"./._0.png": b"x", "__MACOSX/0.png": b"x", ".DS_Store": b"x"}
    tar(tmp_path / "t" / "a.tar", images(3, "./{}.png") | litter)
    data = open_images(tmp_path / "t", **SMALL)
    assert (size(data), data.skipped, data.left_out) == (3, (), ())


def test_classes_as_text_are_ranked(tmp_path):
    labels = {f"{i}.cls": [b"cat", b"dog", "é".encode("latin-1")][i % 3] for i in range(6)}
    tar(tmp_path / "t" / "a.tar", images(6) | labels)
    data = open_images(tmp_path / "t", **SMALL)
    assert data.class_names == ("cat", "dog", "\udce9")
    assert len({int(data.train.labels[i]) for i in range(5)}) == 3


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (b"cat", "the class of 1.png in"),
        (b"", "the class of 1.png in"),
        (b"9" * 300, "1.cls has 300 bytes, expected a class"),
        (b"-1", "between 0 and 0, got -1 to 0"),
    ],
)
def test_a_class_that_does_not_fit_is_named(tmp_path, label, said):
    tar(tmp_path / "t" / "a.tar", images(2) | {"0.cls": b"0", "1.cls": label})
    assert said in message(tmp_path / "t")


def test_a_label_is_no_count(tmp_path):
    """10**12 classes for two images took all memory."""
    tar(tmp_path / "t" / "a.tar", images(2) | {"0.cls": b"7", "1.cls": b"1000000000000"})
    assert open_images(tmp_path / "t", **SMALL).class_names == ("7", "1000000000000")


def test_members_that_are_not_read_are_counted(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(3) | {f"{i}.log": b"{}" for i in range(5)})
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        file.addfile(link)
    data = open_images(tmp_path / "t", **SMALL)
    assert [(item.kind, item.count) for item in data.left_out] == [
        (".log member", 5),
        ("linked or sparse member", 1),
    ]
    assert data.notes[0] == (
        "5 .log members left out (a.tar/0.log, a.tar/1.log, a.tar/2.log, ...): "
        "classes are read from .cls members"
    )


@pytest.mark.parametrize("name", ["huge.cls", "huge.png"])
def test_a_sparse_member_is_left_out(tmp_path, name):
    """It claims 10**12 bytes and has none."""
    path = tar(tmp_path / "t" / "a.tar", {})
    header = tarfile.TarInfo(name)
    header.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(10**12),
        "GNU.sparse.map": "0,0",
        "GNU.sparse.name": name,
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(header)
        for i in range(3):
            member = tarfile.TarInfo(f"{i}.png")
            content = png(i)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    data = open_images(tmp_path / "t", **SMALL)
    assert (size(data), data.left_out[0].kind) == (3, "linked or sparse member")


def test_a_length_beyond_the_file_is_refused(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(2))
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("0.png")
        member.size = 10**15
        file.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
        file.offset = file.fileobj.tell()
    assert "a.tar is no plain tar file" in message(tmp_path / "t")


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Train", "testing")])
def test_shards_in_split_folders(tmp_path, train, test):
    tar(tmp_path / train / "A.TAR", images(4))
    tar(tmp_path / test / "a.tar", images(2, first=50))
    data = open_images(tmp_path, **SMALL)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert np.asarray(picture(50)).transpose(2, 0, 1).tobytes() in held_out(data)
    (tmp_path / test / "a.tar").write_bytes(tar(tmp_path / "x.tar", {"bad.png": b""}).read_bytes())
    (tmp_path / "x.tar").unlink()
    assert f"{test}/a.tar/bad.png (empty file)" in message(tmp_path)


def test_one_tar_file_is_a_source(tmp_path):
    path = tar(tmp_path / "set.tar", images(4))
    tar(tmp_path / "other.tar", images(3, first=9))
    data = open_images(path, **SMALL)
    assert (data.name, size(data)) == ("set", 4)


def test_names_that_are_no_text(tmp_path):
    tar(tmp_path / "t" / "a.tar", images(3) | {"caf\udce9.png": png(7)})
    assert size(open_images(tmp_path / "t", **SMALL, memory_limit=0)) == 4


def test_a_class_without_an_image_is_counted(tmp_path):
    tar(tmp_path / "t" / "a.tar", images(8) | {f"{i}.cls": b"%d" % (i % 2) for i in range(9)})
    data = open_images(tmp_path / "t", **SMALL)
    assert (size(data), data.notes) == (8, ("1 lonely .cls member left out (a.tar/8.cls)",))


def test_a_member_larger_than_any_image_is_one_bad_image(tmp_path):
    path = tar(tmp_path / "t" / "a.tar", images(4))
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("vast.png")
        member.size = 2**31
        file.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
        end = file.fileobj.tell() + 2**31 + 1024
        file.fileobj.truncate(end)
        file.fileobj.seek(end)
        file.offset = end
    data = open_images(tmp_path / "t", **SMALL, max_bad_share=0.5)
    assert [item.reason for item in data.skipped] == [
        "cannot be read: 2,147,483,648 bytes, more than an image has"
    ]


def test_shards_of_the_working_folder(tmp_path, monkeypatch):
    tar(tmp_path / "t" / "a.tar", images(3))
    monkeypatch.chdir(tmp_path / "t")
    assert open_images(".", **SMALL).name == "t"


def test_a_link_to_the_folder_of_shards_is_followed(tmp_path):
    tar(tmp_path / "t" / "a.tar", images(3))
    (tmp_path / "link").symlink_to(tmp_path / "t")
    assert size(open_images(tmp_path / "link", **SMALL)) == 3
