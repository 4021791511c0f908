"""The recipes of docs/engines.md, as they stand there, on a cluster of this machine."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from tests.fixtures.slides import slide_pixels, write_slide
from torchmetrics_rl2 import compute_statistics, screen
from torchmetrics_rl2.screening import Tiling

DOCS = Path(__file__).parents[1] / "docs" / "engines.md"


def recipe(contains, namespace, changes):
    """Run the block that has this in it, with what is of another machine changed."""
    blocks = re.findall(r"```py(?:thon)?\n(.*?)```", DOCS.read_text(), re.DOTALL)
    block = next(block for block in blocks if contains in block)
    for before, after in changes.items():
        assert before in block
        block = block.replace(before, after)
    exec(block, namespace)


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for all else that runs
        # More CPUs than there are: workers that stay, and what reads for them, each ask for one.
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.fixture
def slides(tmp_path):
    """Eight patches of each of two slides."""
    for i, image in enumerate(tissue(16, seed=3)):
        folder = tmp_path / "slides" / f"slide{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(folder / f"{i:02}.png")
    return tmp_path / "slides"


def is_same(found, expected):
    assert found.group_names == tuple(Path(name).name for name in expected.group_names)
    assert torch.equal(found.groups.count, expected.groups.count)
    # Latents are single precision, and other batches round otherwise.
    torch.testing.assert_close(found.groups.sum, expected.groups.sum, rtol=0, atol=1e-4)


def test_ray_data_merges_batches_to_the_statistics_of_all(cluster, slides, weights_file):
    namespace = {"ray": cluster, "Path": Path}
    recipe("class StatisticsOfBatch", namespace, {'"histology"': repr(str(weights_file))})
    changes = {
        '"patches/"': repr(str(slides)),
        "concurrency=4, num_gpus=1, batch_size=256": "concurrency=1, batch_size=5",
    }
    recipe("ray.data.read_images", namespace, changes)
    is_same(namespace["fake"], compute_statistics(slides, weights=weights_file, groups="parent", device="cpu"))


def test_zarr_slices_add_up(slides, weights_file, tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    files = sorted(slides.glob("*/*"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    store = zarr.open(tmp_path / "patches.zarr", mode="w")
    store.create_array("images", data=images)
    store.create_array("slides", data=np.array([file.parent.name for file in files]))
    monkeypatch.chdir(tmp_path)
    namespace = {"zarr": zarr}
    recipe("class StatisticsOfBatch", namespace, {'"histology"': repr(str(weights_file))})
    recipe("zarr.open", namespace, {"256": "5"})
    is_same(namespace["fake"], compute_statistics(slides, weights=weights_file, groups="parent", device="cpu"))


def test_ray_screens_each_slide_once_though_a_worker_dies(cluster, weights_file, calibration, tmp_path):
    calibration.save(good := tmp_path / "calibration.safetensors")
    cohort = [tmp_path / f"case-{seed}.svs" for seed in range(2)]
    for seed, path in enumerate(cohort):
        write_slide(path, slide_pixels(seed))
    settings = {"weights": str(weights_file), "calibration": str(good), "max_false_rejection": 0.05, "workers": 0}
    settings |= {"device": "cpu", "tiling": Tiling(64)}

    def screen_or_die(slides, out, progress):
        died = Path(out).with_name("died")
        if slides == str(cohort[1]) and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return screen(slides, out, progress=progress, **settings)

    namespace = {}
    at = {"num_gpus=1": "num_cpus=2", '"/shared/screened"': repr(str(tmp_path / "shared"))}
    recipe("class StatisticsOfBatch", namespace, {'"histology"': repr(str(weights_file))})
    recipe("def screen_slides", namespace, at)
    namespace["screen"] = screen_or_die
    result = namespace["screen_slides"]([str(path) for path in cohort])
    alone = screen(cohort, tmp_path / "alone", progress=False, **settings)
    assert (tmp_path / "died").exists()
    assert [(row.slide, row.status) for row in result.slides] == [(path.stem, "finished") for path in cohort]
    for path in cohort:
        table = Path(path.stem, "patches.csv")
        assert (tmp_path / "shared" / table).read_bytes() == (tmp_path / "alone" / table).read_bytes()
    assert len(result.slides) == len(alone.slides)
