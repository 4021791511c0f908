import pickle
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from tests.fixtures.processes import ranks
from torchmetrics_rl2 import RL2Error, compute_statistics, score
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.scoring import encoding


def options_of(folder, weights):
    return {
        **{"real": folder / "real", "held_out": folder / "held_out", "weights": weights, "by": "kinds"},
        **{"explain": True, "tile": 32, "real_groups": "file", "skip_unreadable": True},
    }


def classes_of(folder, weights, **options):
    """Sums of each class of both sides, and of those the groups."""
    sources = [folder / "real", folder / "fake"]
    options |= {"weights": weights, "classes": "parent", "groups": "file", "skip_unreadable": True}
    found = compute_statistics(sources, **options).classes
    return {name: (one.sums.sum, one.groups.sum, one.group_names, one.duplicates) for name, one in found.items()}


def rank_main(rank, size, folder, case, weights):
    dist.init_process_group("gloo", init_method=f"file://{folder}/init-{case}", rank=rank, world_size=size)
    encoding.CHUNK = encoding.TILED_CHUNK = 3
    encoded, original = [], encoding.Encoding._latents
    encoding.Encoding._latents = lambda self, images: encoded.append(len(images)) or original(self, images)
    try:
        found = CASES[case](rank, folder, weights)
    except RL2Error as error:
        found = f"{type(error).__name__}: {error}"
    (folder / f"{case}-{rank}").write_bytes(pickle.dumps((found, sum(encoded))))
    dist.destroy_process_group()


def of_all(rank, folder, weights):
    return score(folder / "fake", **options_of(folder, weights), distributed=True)


def of_few(rank, folder, weights):
    return compute_statistics(folder / "few", weights=weights, distributed=True).sums.sum


def of_classes(rank, folder, weights):
    return classes_of(folder, weights, distributed=True)


def of_statistics(rank, folder, weights):
    saved = folder / "few.safetensors"
    return score(saved, saved, weights=weights, distributed=True).value


def of_other_weights(rank, folder, weights):
    encoder = LatentEncoder.load(weights)
    if rank == 1:
        encoder.weights_id = "ffffffffffffffff"
    return compute_statistics(folder / "few", weights=encoder, distributed=True)


def of_other_versions(rank, folder, weights):
    with mock.patch("torchmetrics_rl2.scoring.keeping.versions", return_value={"torch": f"2.{rank}"}):
        return compute_statistics(folder / "few", weights=weights, distributed=True)


def of_missing_weights(rank, folder, weights):
    return compute_statistics(folder / "few", weights="nothing" if rank else weights, distributed=True)


def of_unreadable(rank, folder, weights):
    return compute_statistics(folder / "broken", weights=weights, distributed=True, resume=folder / "kept")


def of_unseen_folder(rank, folder, weights):
    if rank:
        Path.is_file = lambda self: self.name != "run.json"
    return compute_statistics(folder / "few", weights=weights, distributed=True, resume=folder / "unseen")


CASES = {name: value for name, value in globals().items() if name.startswith("of_")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights_of_kinds):
    """Sides with a file that is in both, a copy, one of one color, and one that is no image."""
    from torchmetrics_rl2.weights import write_weights

    folder = tmp_path_factory.mktemp("ranks")
    write_weights(weights_of_kinds, folder / "weights.safetensors")
    for side, count, seed in (("real", 23, 0), ("held_out", 20, 1), ("fake", 11, 2), ("few", 2, 3), ("broken", 12, 4)):
        (folder / side).mkdir()
        for i, image in enumerate(random_images(count, seed=seed)):
            to_pil_image(image).save(folder / side / f"{i:02}.png")
    (folder / "fake" / "03.png").write_bytes((folder / "real" / "20.png").read_bytes())
    (folder / "fake" / "10.png").write_bytes((folder / "fake" / "00.png").read_bytes())
    to_pil_image(torch.zeros(3, 64, 64, dtype=torch.uint8)).save(folder / "real" / "05.png")
    (folder / "fake" / "08.png").write_text("no image")
    (folder / "broken" / "04.png").write_text("no image")
    return folder


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 3)
    monkeypatch.setattr(encoding, "TILED_CHUNK", 3)


def found_by(folder, case, size, weights=None):
    ranks(size, rank_main, size, folder, case, weights or folder / "weights.safetensors")
    found = [pickle.loads((folder / f"{case}-{rank}").read_bytes()) for rank in range(size)]
    (folder / f"init-{case}").unlink(missing_ok=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_the_result_of_several_processes_is_that_of_one_in_number_and_text(folder, size):
    expected = score(folder / "fake", **options_of(folder, folder / "weights.safetensors"))
    assert expected.copied
    assert expected.duplicates["fake"]
    assert expected.unreadable
    assert expected.diversity.n == 40
    found = found_by(folder, "of_all", size)
    for result, _ in found:
        assert result.to_dict() == expected.to_dict()
        assert result.details() == expected.details()
    each = [count for _, count in found]
    assert sum(each) == (23 + 20 + 10) * 4  # each image once, and none for padding
    assert max(each) - min(each) <= 2 * 12


@pytest.mark.slow
def test_more_processes_than_files_and_none_at_all(folder):
    expected = compute_statistics(folder / "few", weights=folder / "weights.safetensors")
    found = found_by(folder, "of_few", 3)
    assert all(torch.equal(total, expected.sums.sum) for total, _ in found)
    assert [count for _, count in found] == [2, 0, 0]
    expected.save(folder / "few.safetensors")
    assert [value for value, _ in found_by(folder, "of_statistics", 2)] == [0, 0]


@pytest.mark.slow
def test_classes_of_several_processes_are_exactly_those_of_one(folder):
    expected = classes_of(folder, folder / "weights.safetensors")
    assert [len(names) for _, _, names, _ in expected.values()] == [9, 23]
    assert expected["fake"][3]
    for found, _ in found_by(folder, "of_classes", 2):
        assert found.keys() == expected.keys()
        for name, (total, of_groups, *named) in expected.items():
            assert torch.equal(found[name][0], total)
            assert torch.equal(found[name][1], of_groups)
            assert list(found[name][2:]) == named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("of_other_weights", "Process 0 and process 1 differ in weights"),
        ("of_other_versions", "differ in torch (2.0 and 2.1)"),
        ("of_missing_weights", "There are no weights named 'nothing'"),
        ("of_unseen_folder", "is not seen on"),
        ("of_unreadable", "04.png cannot be read"),
    ],
)
def test_what_is_wrong_in_one_process_ends_all_and_the_first_says_it(folder, case, said):
    (first, _), (second, _) = found_by(folder, case, 2)
    assert said in first
    assert first.startswith("RL2Error: ")
    assert second.startswith("ElsewhereError: ")
    if case == "of_unreadable":
        assert "is kept in" in first
        names = {path.name for path in (folder / "kept").glob("*.safetensors")}
        assert "images-0-00001.safetensors" not in names
        assert "images-0-00000.safetensors" in names


def test_without_a_process_group_there_is_a_sentence(patches, encoder):
    with pytest.raises(RL2Error, match="--devices starts them"):
        compute_statistics(patches / "a", weights=encoder, distributed=True)
