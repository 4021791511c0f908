from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.fitting import split_images
from torchmetrics_rl2.images import groups_of
from torchmetrics_rl2.images.groups import read_column


@given(sizes=st.lists(st.integers(8, 60), min_size=3, max_size=12), seed=st.integers(0, 100))
def test_groups_stay_together_and_every_image_is_used_once(sizes, seed):
    groups = {Path(f"{g}/{i}.png"): str(g) for g, size in enumerate(sizes) for i in range(size)}
    split = split_images(list(groups), groups, seed)
    sides = {path: side for side, paths in vars(split).items() for path in paths}
    assert set(sides) == set(groups)
    assert sum(len(paths) for paths in vars(split).values()) == len(groups)
    assert len({(groups[path], side) for path, side in sides.items()}) == len(sizes)


def test_shares_of_many_single_images():
    split = split_images([Path(f"{i}.png") for i in range(1000)])
    assert {side: len(paths) for side, paths in vars(split).items()} == {"fit": 700, "stop": 100, "reference": 200}


def test_a_giant_slide_fits():
    groups = {Path(f"{i}.png"): "giant" if i < 90 else str(i % 5) for i in range(120)}
    assert Counter(groups[path] for path in split_images(list(groups), groups).fit)["giant"] == 90


def test_the_seed_decides():
    paths = [Path(f"{i}.png") for i in range(100)]
    assert split_images(paths, seed=1) == split_images(paths, seed=1) != split_images(paths, seed=2)


def test_too_few_are_refused():
    with pytest.raises(RL2Error, match=r"2 group\(s\).*at least 3"):
        split_images([Path("a/1"), Path("a/2"), Path("b/1")], {Path("a/1"): "a", Path("a/2"): "a", Path("b/1"): "b"})
    with pytest.raises(RL2Error, match="10 images in 10 groups leave"):
        split_images([Path(f"{i}.png") for i in range(10)])


def test_groups_are_named_as_seen_from_the_current_folder(tmp_path, monkeypatch):
    source = tmp_path / "here" / "slides"
    (source / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for base in (source, Path("here/slides"), tmp_path / "here" / "slides" / "a" / ".."):
        paths = [base / "a" / "1.png", base / "2.png"]
        assert list(groups_of("parent", paths, source).values()) == ["here/slides/a", "here/slides"]
        assert list(groups_of("file", paths, source).values()) == ["here/slides/a/1.png", "here/slides/2.png"]
    table = source / "groups.csv"
    table.write_text("path,group\na/1.png,x\n2.png,y\n")
    paths = [source / "a" / "1.png", source / "2.png"]
    assert groups_of(str(table), paths, source) == {paths[0]: "x", paths[1]: "y"}


def test_groups_from_a_table(tmp_path):
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / "2.png"]
    table = tmp_path / "groups.csv"
    table.write_text(f"path,group\na/1.png,slide1\n{paths[1]},slide2\n")
    assert read_column(table, "group", paths, tmp_path) == {paths[0]: "slide1", paths[1]: "slide2"}
    with pytest.raises(RL2Error, match="no group for 1 of 3 images"):
        read_column(table, "group", [*paths, tmp_path / "c.png"], tmp_path)
    table.write_text("file,slide\n")
    with pytest.raises(RL2Error, match="columns file, slide; expected path and group"):
        read_column(table, "group", paths, tmp_path)
    for content, sentence in (
        ("path,group\na/1.png\n", "line 2"),
        ("path,group\na/1.png,x\na/1.png,y\n", "line 3"),
        ("path,group\n\0,x\n", "line 2|cannot be read"),
    ):
        table.write_text(content)
        with pytest.raises(RL2Error, match=sentence):
            read_column(table, "group", paths, tmp_path)
    table.write_bytes("path,group\nä.png,x\n".encode("latin-1"))
    with pytest.raises(RL2Error, match="UTF-8"):
        read_column(table, "group", paths, tmp_path)
    table.write_text("path,group\na/1.png,slide1\nb/2.png,slide2\n", encoding="utf-8-sig")
    assert len(read_column(table, "group", paths, tmp_path)) == 2
    with pytest.raises(RL2Error, match="no table"):
        read_column(tmp_path / "gone.csv", "group", paths, tmp_path)
