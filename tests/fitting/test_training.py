import pytest
import torch

from torchmetrics_rl2.fitting import FitSettings, Machine
from torchmetrics_rl2.fitting.training import FlowTraining, train_flow
from torchmetrics_rl2.networks import RealNVP


@pytest.mark.slow
def test_fitting_finds_structure_that_standardization_misses(tmp_path):
    features = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    features[:, 4:] = features[:, :4].square() + 0.1 * features[:, 4:]
    flow = RealNVP(8, 4, 32, scale_bound=1.0)
    flow.linear.adapt(features[:1500])
    module = FlowTraining(flow, features[:1500], features[1500:], FitSettings(max_epochs=30, learning_rate=5e-3))
    before = flow.log_prob(features[1500:]).mean().item()
    held_out, epochs = train_flow(module, before, tmp_path, Machine("cpu"), None)
    assert held_out > before + 2
    assert epochs <= 30
    assert flow.log_prob(features[1500:]).mean().item() == pytest.approx(held_out, rel=1e-4)
