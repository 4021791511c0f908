import pytest

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import labels_of


def test_the_folder_of_an_image_names_its_kind_wherever_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "train" / "colon"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    paths = [folder / "1.png", tmp_path / "test" / "colon" / "2.png", tmp_path / "lung" / ".." / "fat" / "3.png"]
    assert list(labels_of("parent", paths, tmp_path, "kind").values()) == ["colon", "colon", "fat"]
    assert list(labels_of("parent", [type(folder)("4.png")], tmp_path, "kind").values()) == ["colon"]


@pytest.mark.parametrize("column", ["kind", "class"])
def test_a_table_names_the_kind_of_each_image(tmp_path, column):
    table, paths = tmp_path / "labels.csv", [tmp_path / "a" / "1.png", tmp_path / "2.png"]
    table.write_text(f"path,{column},note\na/1.png,fat,x\n2.png, colon,\n3.png,unused,\n")
    assert labels_of(str(table), paths, tmp_path, column) == {paths[0]: "fat", paths[1]: "colon"}
    with pytest.raises(RL2Error, match=f"has no {column} for 1 of 3 images, .*4.png for one"):
        labels_of(table, [*paths, tmp_path / "4.png"], tmp_path, column)
    table.write_text(f"path,{column}\na/1.png,fat\na/1.png,colon\n")
    with pytest.raises(RL2Error, match=f"line 3: expected one path and its one {column}"):
        labels_of(table, paths, tmp_path, column)
    table.write_text("path,group\na/1.png,fat\n")
    with pytest.raises(RL2Error, match=f"columns path, group; expected path and {column}"):
        labels_of(table, paths, tmp_path, column)


def test_what_is_no_table_of_kinds_says_what_is(tmp_path):
    for wrong in ("file", "parents", tmp_path):
        with pytest.raises(RL2Error, match="There is no table .* Expected 'parent' or a CSV with the columns path and"):
            labels_of(wrong, [tmp_path / "1.png"], tmp_path, "kind")
