import copy

import pytest
import torch
from torch import nn

from tests.conftest import random_images
from torchmetrics_rl2 import PatchQuality, ResNetL2, score
from torchmetrics_rl2.encoder.sharing import network_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def images():
    return random_images(12)


MASK = torch.arange(12) < 6


def relative(found, expected):
    return abs(float(found) - float(expected)) / abs(float(expected))


def test_a_gpu_gives_the_value_of_a_cpu(encoder, images):
    expected = ResNetL2(encoder)(images, MASK)
    metric = ResNetL2(encoder).cuda()
    assert relative(metric(images.cuda(), MASK.cuda()), expected) < 1e-4
    assert metric.real_sum.device.type == "cuda"
    assert network_of(ResNetL2(encoder).encoder).device.type == "cpu"  # the caller's is not moved


@pytest.mark.parametrize("switch", ["tf32", "autocast", "benchmark"])
def test_no_switch_of_the_caller_changes_a_bit(encoder, images, switch):
    metric = ResNetL2(encoder).cuda()
    metric.update(images.cuda(), MASK.cuda())
    expected = metric.fake_sum.clone()
    again = ResNetL2(encoder).cuda()
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        torch.set_float32_matmul_precision("medium" if switch == "tf32" else before[0])
        torch.backends.cudnn.benchmark = switch == "benchmark"
        with torch.autocast("cuda", torch.float16, enabled=switch == "autocast"):
            again.update(images.cuda(), MASK.cuda())
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]
    assert torch.equal(again.fake_sum, expected)


def test_half_precision_moves_the_value_by_less_than_a_hundredth(encoder, images):
    expected = ResNetL2(encoder).cuda()(images.cuda(), MASK.cuda())
    metric = ResNetL2(encoder).cuda().set_dtype(torch.float16)
    assert 0 < relative(metric(images.cuda(), MASK.cuda()), expected) < 1e-2


@pytest.mark.parametrize("which", ["encoder", "encoder_of_kinds"])
@pytest.mark.parametrize("uncertainty", [False, True])
def test_update_makes_the_gpu_wait_for_nothing(request, images, which, uncertainty):
    metric, on_gpu = ResNetL2(request.getfixturevalue(which), uncertainty=uncertainty).cuda(), images.cuda()
    metric.update(on_gpu, real=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(on_gpu, real=True)
        metric.update(on_gpu, real=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (int(metric.real_count), int(metric.fake_count)) == (24, 12)


def test_moved_metrics_go_on_with_their_sums(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, real=True)
    metric.cuda().update(images[:6].cuda(), real=False)
    metric.cpu().update(images[6:], real=False)
    expected = ResNetL2(encoder)
    expected.update(images, real=True)
    expected.update(images, real=False)
    assert int(metric.fake_count) == 12
    torch.testing.assert_close(metric.fake_sum, expected.fake_sum, rtol=1e-4, atol=1e-2)
    assert copy.deepcopy(metric.cuda()).cpu().compute() == metric.cpu().compute()


def test_a_model_is_compiled_around_the_metric(encoder, images):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rl2 = ResNetL2(encoder)
            self.net = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.net(x)

    model = Model().cuda()
    compiled = torch.compile(model)
    compiled(images.cuda().float())
    assert relative(model.rl2(images.cuda(), MASK.cuda()), ResNetL2(encoder)(images, MASK)) < 1e-4


def test_one_rank_of_nccl_synchronizes(encoder, images, tmp_path):
    torch.distributed.init_process_group("nccl", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        metric = ResNetL2(encoder, uncertainty=True).cuda()
        metric.update(images.cuda(), MASK.cuda())
        alone = metric.compute()
        metric.sync(distributed_available=lambda: True)
        assert int(metric.fake_count) == 6
        metric.unsync()
        metric._computed = None
        assert metric.compute() == alone
    finally:
        torch.distributed.destroy_process_group()


def test_files_are_scored_on_the_gpu_as_on_the_cpu(weights_file, patches):
    fake, real = patches / "bright", patches / "a"
    expected = score(fake, real, weights=weights_file, device="cpu")
    found = score(fake, real, weights=weights_file, workers=2)
    assert found.settings["device"] == "cuda:0"
    assert relative(found.value, expected.value) < 1e-4


def test_patches_are_judged_on_the_gpu_as_on_the_cpu(encoder, calibration, images):
    cpu = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)
    gpu = copy.deepcopy(cpu).cuda()
    found, expected = gpu(images.cuda()), cpu(images)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-3, abs=0.01
    )
