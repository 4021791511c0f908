import pickle

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tests.conftest import random_images
from torchmetrics_rl2 import ResNetL2

IMAGES = 11
STATES = ("real_sum", "real_square_sum", "real_count", "fake_sum", "fake_square_sum", "fake_count")


class Moments(nn.Module):
    num_features = 3

    def forward(self, imgs):
        return imgs.float().mean((2, 3))


def data():
    return random_images(IMAGES, px=8), torch.arange(IMAGES) % 3 == 0


def share(rank, images, mask, uneven):
    """Half each, or all but two on rank 0, or nothing on rank 1."""
    chosen = {"even": torch.arange(IMAGES) % 2 == rank, "uneven": (torch.arange(IMAGES) < 9) == (rank == 0)}.get(uneven)
    if chosen is None:
        chosen = torch.full((IMAGES,), rank == 0)
    return images[chosen], mask[chosen]


def rank_main(rank, init, folder):
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    found = {}
    for uneven in ("even", "uneven", "one rank empty"):
        metric = ResNetL2(Moments())
        imgs, mask = share(rank, *data(), uneven)
        if len(imgs):
            metric.update(imgs, mask)
        metric.sync()
        found[uneven] = {name: getattr(metric, name).clone() for name in STATES}
        metric.unsync()
        found[uneven]["value"] = metric.compute()
        found[uneven]["local count"] = metric.real_count + metric.fake_count

    found["on step"] = ResNetL2(Moments(), dist_sync_on_step=True)(*share(rank, *data(), "even"))
    kept = ResNetL2(Moments(), reset_real_features=False)
    imgs, mask = share(rank, *data(), "even")
    kept.update(imgs, mask)
    kept.reset()
    kept.update(imgs[~mask], real=False)
    found["kept"] = kept.compute()
    with open(f"{folder}/{rank}", "wb") as file:
        pickle.dump(found, file)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_main, (f"file://{folder}/init", str(folder)), nprocs=2)
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    metric = ResNetL2(Moments())
    metric.update(*data())
    return {name: getattr(metric, name) for name in STATES} | {"value": metric.compute()}


@pytest.mark.parametrize("uneven", ["even", "uneven", "one rank empty"])
def test_synced_sums_are_those_of_one_process(ranks, alone, uneven):
    # Raw sums, since a mean of sums over a mean of counts would give the same ratio.
    for rank in ranks:
        for name, value in alone.items():
            torch.testing.assert_close(rank[uneven][name], value, rtol=1e-12 if name != "value" else 1e-6, atol=0)
    assert sum(rank[uneven]["local count"] for rank in ranks) == IMAGES


def test_a_step_can_be_synced(ranks, alone):
    assert ranks[0]["on step"] == ranks[1]["on step"]
    assert ranks[0]["on step"].item() == pytest.approx(alone["value"].item(), rel=1e-6)


def test_kept_reals_are_synced_once(ranks, alone):
    assert ranks[0]["kept"] == ranks[1]["kept"]
    assert ranks[0]["kept"].item() == pytest.approx(alone["value"].item(), rel=1e-6)
