import json
import shutil
from unittest import mock

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import Moments, random_images
from tests.fixtures.packed import encoded, write_tar
from torchmetrics_rl2 import RL2Error, compute_statistics, score
from torchmetrics_rl2.scoring import encoding, kept


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 3)
    monkeypatch.setattr(encoding, "TILED_CHUNK", 3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def chunks(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


class Counting(Moments):
    """Which ends after so many images."""

    weights_id = "counting"

    def __init__(self, most=10**9):
        super().__init__()
        self.seen, self.most = 0, most

    def forward(self, imgs):
        if self.seen + len(imgs) > self.most:
            raise KeyboardInterrupt
        self.seen += len(imgs)
        return super().forward(imgs)


def everything(patches, encoder, **options):
    copies = {"held_out": patches / "b", "real": patches / "bright"}
    options = {"weights": encoder, "by": "kinds", "explain": True, "tile": 16 * 2, "real_groups": "file", **options}
    return score(patches / "a", **copies, **options).to_dict()


def test_what_is_kept_gives_the_same_result_to_the_last_digit(patches, encoder_of_kinds, folder):
    expected = everything(patches, encoder_of_kinds)
    assert expected["copies"]
    assert expected["diversity"]["n"] == 32
    assert expected["strata"]
    for _ in range(2):
        assert everything(patches, encoder_of_kinds, resume=folder) == expected
    assert len(chunks(folder)) == 9
    with mock.patch.object(encoding.Encoding, "_latents", side_effect=AssertionError("encoded again")):
        assert everything(patches, encoder_of_kinds, resume=folder) == expected


def test_an_interrupted_run_goes_on_and_encodes_nothing_twice(patches, folder):
    expected = compute_statistics(patches, weights=Counting())
    network = Counting(most=10)
    with pytest.raises(KeyboardInterrupt):
        compute_statistics(patches, weights=network, resume=folder)
    assert chunks(folder) == [f"images-0-{i:05}.safetensors" for i in range(3)]
    told, network = [], Counting()
    found = compute_statistics(patches, weights=network, resume=folder, progress=lambda *report: told.append(report))
    assert network.seen == 24 - 9
    assert torch.equal(found.sums.second_moment, expected.sums.second_moment)
    assert told[0] == ("images", 0, 24, 0)
    assert [report[1] for report in told] == sorted(report[1] for report in told)
    assert told[-1][:3] == ("images", 24, 24)


@pytest.mark.parametrize("groups", [None, "file"])
def test_classes_are_added_up_of_what_is_kept_to_the_last_digit(patches, encoder, folder, groups):
    expected = compute_statistics(patches, weights=encoder, groups=groups, classes="parent")
    compute_statistics(patches, weights=encoder, resume=folder)  # classes need no new latents
    with mock.patch.object(encoding.Encoding, "_latents", side_effect=AssertionError("encoded again")):
        found = compute_statistics(patches, weights=encoder, groups=groups, classes="parent", resume=folder)
    assert list(found.classes) == list(expected.classes) == ["a", "b", "bright"]
    for name, one in expected.classes.items():
        for field in ("sum", "square_sum", "count", "second_moment"):
            mine, wanted = (getattr(side.sums, field) for side in (found.classes[name], one))
            assert mine is wanted is None or torch.equal(mine, wanted)
        assert found.classes[name].group_names == one.group_names
        assert groups is None or torch.equal(found.classes[name].groups.sum, one.groups.sum)


def test_a_folder_of_another_run_names_what_differs(patches, encoder, other_weights, folder, tmp_path):
    compute_statistics(patches / "a", weights=encoder, resume=folder)
    for changed, said in (
        ({"weights": other_weights}, f"weights \\(then {encoder.weights_id[:12]}, now {other_weights.weights_id[:12]}"),
        ({"tile": 32}, "tile \\(then None, now 32\\)"),
        ({"scale": 0.5}, "scale \\(then None, now 0.5\\)"),
    ):
        with pytest.raises(RL2Error, match=f"is of a run with other {said}"):
            compute_statistics(patches / "a", **{"weights": encoder, "resume": folder, **changed})
    with pytest.raises(RL2Error, match="other images .then 8 files.*real images .then none"):
        score(patches / "a", patches / "b", weights=encoder, resume=folder)
    with (
        mock.patch("torchmetrics_rl2.scoring.keeping.versions", return_value={"torch": "0.1"}),
        pytest.raises(RL2Error, match=r"torch \(then .*, now 0.1\)"),
    ):
        compute_statistics(patches / "a", weights=encoder, resume=folder)
    shutil.copytree(patches / "a", tmp_path / "a")
    with pytest.raises(RL2Error, match="generated images.*|other images"):
        compute_statistics(tmp_path / "a", weights=encoder, resume=folder)


def test_images_generated_anew_under_the_same_names_are_other_images(encoder, folder, tmp_path):
    for seed in (0, 1):
        for i, image in enumerate(random_images(8, seed=seed)):
            (tmp_path / "generated").mkdir(exist_ok=True)
            to_pil_image(image // 2 + 60 if seed else image).save(tmp_path / "generated" / f"{i}.png")
        if seed:
            with pytest.raises(RL2Error, match="other images"):
                compute_statistics(tmp_path / "generated", weights=encoder, resume=folder)
        else:
            compute_statistics(tmp_path / "generated", weights=encoder, resume=folder)


def test_images_generated_anew_in_a_shard_as_long_as_before_are_other_images(encoder, folder, tmp_path):
    shard, images = tmp_path / "generated.tar", [(f"{i}.png", data) for i, data in enumerate(encoded(4))]
    write_tar(shard, images)
    length = shard.stat().st_size
    compute_statistics(shard, weights=encoder, resume=folder)
    images[2] = ("2.png", images[2][1] + b"\0")
    write_tar(shard, images)
    assert shard.stat().st_size == length
    with pytest.raises(RL2Error, match="other images"):
        compute_statistics(shard, weights=encoder, resume=folder)


def test_a_table_whose_column_is_named_is_told_from_another_by_its_size(encoder, folder, tmp_path, monkeypatch):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"image": encoded(4)}), "a.parquet")
    first = compute_statistics("a.parquet::image", weights=encoder, resume=folder)
    (tmp_path / ("more" * 50)).mkdir()  # of which the size of the folder may tell
    again = compute_statistics("a.parquet::image", weights=encoder, resume=folder)
    assert torch.equal(again.sums.second_moment, first.sums.second_moment)
    pq.write_table(pa.table({"image": encoded(4, px=40)}), "a.parquet")
    with pytest.raises(RL2Error, match="other images"):
        compute_statistics("a.parquet::image", weights=encoder, resume=folder)


def test_another_data_set_of_as_many_images_is_of_another_run(encoder, folder):
    datasets = pytest.importorskip("datasets")

    def dataset(images):
        cells = {"image": [{"bytes": data, "path": None} for data in images]}
        return datasets.Dataset.from_dict(cells, features=datasets.Features({"image": datasets.Image()}))

    images = encoded(5)
    for _ in range(2):
        compute_statistics(dataset(images[:4]), weights=encoder, resume=folder)
    with pytest.raises(RL2Error, match="other images"):
        compute_statistics(dataset(images[1:]), weights=encoder, resume=folder)


def test_networks_without_an_identity_are_told_apart_by_their_weights(patches, folder):
    compute_statistics(patches / "a", weights=Moments(), resume=folder)
    other = Moments()
    with torch.no_grad():
        other.scale += 1
    with pytest.raises(RL2Error, match="other weights"):
        compute_statistics(patches / "a", weights=other, resume=folder)


def test_a_folder_that_is_something_else_is_left_alone(patches, encoder, tmp_path):
    with pytest.raises(RL2Error, match="holds other files, and no run"):
        compute_statistics(patches / "a", weights=encoder, resume=patches)
    assert not (patches / "run.json").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RL2Error, match="cannot be kept in"):
        compute_statistics(patches / "a", weights=encoder, resume=tmp_path / "file")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    with pytest.raises(RL2Error, match="is damaged. Remove the folder"):
        compute_statistics(patches / "a", weights=encoder, resume=tmp_path / "damaged")


@pytest.mark.parametrize("harm", ["cut off", "one bit", "another file", "empty"])
def test_a_damaged_chunk_is_named_and_computed_again(patches, encoder, folder, harm):
    expected = compute_statistics(patches / "a", weights=encoder, resume=folder)
    path = folder / chunks(folder)[1]
    data = bytearray(path.read_bytes())
    if harm == "one bit":
        data[-100] ^= 1
    path.write_bytes({"cut off": data[:-50], "empty": b"", "another file": b"x" * 500}.get(harm, data))
    with pytest.warns(UserWarning, match=f"{path.name}.* Its 3 files are read again"):
        found = compute_statistics(patches / "a", weights=encoder, resume=folder)
    assert torch.equal(found.sums.sum, expected.sums.sum)
    compute_statistics(patches / "a", weights=encoder, resume=folder)  # mended: no warning


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(patches, encoder, folder):
    whole, saved = kept.write_file, []

    def full(path, *arguments):
        if len(saved) == 2:
            raise RL2Error(f"{path} cannot be written: No space left on device.")
        saved.append(path)
        whole(path, *arguments)

    with (
        mock.patch.object(kept, "write_file", full),
        pytest.raises(RL2Error, match="No space left on device.* is kept in .*; the same command goes on"),
    ):
        compute_statistics(patches / "a", weights=encoder, resume=folder)
    assert len(chunks(folder)) == 2
    assert len(compute_statistics(patches / "a", weights=encoder, resume=folder)) == 8


def test_a_file_that_vanishes_ends_the_run_and_what_came_before_is_kept(encoder, folder, tmp_path):
    shown = tmp_path / "images"
    shown.mkdir()
    for i, image in enumerate(random_images(9)):
        to_pil_image(image).save(shown / f"{i}.png")

    def vanish(what, done, total, count):
        if done == 3:
            (shown / "7.png").unlink()

    with pytest.raises(RL2Error, match="7.png cannot be read.*--skip-unreadable.* is kept in"):
        compute_statistics(shown, weights=encoder, resume=folder, progress=vanish)
    assert len(chunks(folder)) == 2
    with pytest.raises(RL2Error, match="other images .then 9 files.* now 8 files"):
        compute_statistics(shown, weights=encoder, resume=folder)


def test_what_was_left_out_stays_on_record_and_counts_only_if_that_is_asked_for(encoder, folder, tmp_path):
    for i, image in enumerate(random_images(7)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_text("no image")
    for i in (3, 4, 5):
        (tmp_path / f"{i}.png").write_text("no image either")
    options = {"weights": encoder, "resume": folder}
    with pytest.raises(RL2Error, match="2.png cannot be read"):
        compute_statistics(tmp_path / "*.png", **options)
    for _ in range(2):
        found = compute_statistics(tmp_path / "*.png", **options, skip_unreadable=True)
        assert (len(found), len(found.unreadable)) == (3, 4)
    with pytest.raises(RL2Error, match="2.png cannot be read.*--skip-unreadable"):
        compute_statistics(tmp_path / "*.png", **options)


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_was_mended_since_needs_a_new_folder(encoder, folder, tmp_path):
    for i, image in enumerate(random_images(7)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(bytes(len(whole)))  # as a download that has not arrived
    assert len(compute_statistics(tmp_path / "*.png", weights=encoder, resume=folder, skip_unreadable=True)) == 6
    (tmp_path / "4.png").write_bytes(whole)
    with pytest.raises(RL2Error, match=f"4.png cannot be read.*mended since, start anew: {folder} keeps"):
        compute_statistics(tmp_path / "*.png", weights=encoder, resume=folder)
    assert len(compute_statistics(tmp_path / "*.png", weights=encoder, resume=tmp_path / "new")) == 7


def test_images_of_one_color_are_no_copies_when_they_were_kept_either(encoder, folder, tmp_path):
    for i, image in enumerate([*random_images(4), *torch.zeros(3, 3, 64, 64, dtype=torch.uint8)]):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    for _ in range(2):
        assert compute_statistics(tmp_path / "*.png", weights=encoder, resume=folder).duplicates == ()


def test_the_record_says_what_the_run_was_of(patches, encoder, folder):
    compute_statistics(patches / "a", weights=encoder, resume=folder)
    record = json.loads((folder / "run.json").read_text())
    assert record["images"].startswith("8 files")
    assert record["weights"] == encoder.weights_id[:12]


def test_copies_with_softened_images_need_a_run_of_their_own(patches, encoder, folder):
    score(patches / "a", patches / "bright", weights=encoder, resume=folder, tile=32)
    with pytest.raises(RL2Error, match="held-out images .then none, now 8 files"):
        score(patches / "a", patches / "bright", held_out=patches / "b", weights=encoder, resume=folder, tile=32)


def test_double_precision_is_kept(patches, encoder, folder):
    double = encoder.with_dtype(torch.float64)
    expected = compute_statistics(patches / "a", weights=double)
    for _ in range(2):
        found = compute_statistics(patches / "a", weights=double, resume=folder)
        assert torch.equal(found.sums.sum, expected.sums.sum)
