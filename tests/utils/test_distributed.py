"""What the processes of a run share of a batch: in one process that takes the part of each of two."""

import pytest
import torch
from torch import distributed as dist
from torch import nn

from spectral_tl_bench.training.sync_layers import synchronized_layers
from spectral_tl_bench.utils import distributed


@pytest.fixture
def alone_together(tmp_path, monkeypatch):
    """A group of one process: everything that is exchanged is, and nothing comes of it."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    monkeypatch.setattr(distributed._Control, "group", dist.group.WORLD)
    yield
    dist.destroy_process_group()


@pytest.fixture(params=[0, 1])
def one_of_two(request, monkeypatch):
    """The part of one of two processes, as far as nothing is exchanged."""
    monkeypatch.setattr(distributed._Control, "group", "none")
    monkeypatch.setattr(distributed, "rank", lambda: request.param)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    return request.param


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"eps": 1e-2}])
def test_batch_norms_of_all_processes_do_what_torch_s_own_do(alone_together, options):
    torch.manual_seed(0)
    own, shared = nn.BatchNorm2d(3, **options), nn.BatchNorm2d(3, **options)
    for _ in range(2):
        x = (5 + torch.randn(4, 3, 5, 6)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        weights = torch.randn_like(x)
        (own(x) * weights).sum().backward()
        with synchronized_layers(shared):
            (shared(y) * weights).sum().backward()
        torch.testing.assert_close(y.grad, x.grad, atol=1e-5, rtol=1e-4)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    for shared_weight, weight in zip(shared.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(shared_weight.grad, weight.grad)
    own.eval(), shared.eval()
    with synchronized_layers(shared):
        torch.testing.assert_close(shared(x), own(x))
    assert "forward" not in vars(shared)


def test_what_is_summed_has_a_gradient_and_what_is_gathered_that_of_its_own_share(alone_together):
    x = torch.ones(2, 3, requires_grad=True)
    (distributed.sum_with_gradient(x).square().sum() + distributed.whole_batch(x).sum()).backward()
    assert torch.equal(x.grad, torch.full((2, 3), 3.0))
    assert distributed.mean(x).requires_grad is False
    assert distributed.gather("a") == ["a"]
    assert distributed.maxima(3, 0) == (3, 0)


def test_the_first_process_raises_its_own_error(alone_together):
    with pytest.raises(ZeroDivisionError):
        distributed.rank_zero_result(lambda: 1 // 0)
    assert distributed.rank_zero_first(lambda: 7) == 7


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), nn.Dropout2d(0.3)])
def test_dropout_drops_what_a_single_process_would(one_of_two, layer):
    x = torch.randn(4, 3, 5, 6)
    torch.manual_seed(0)
    whole = layer(x)
    torch.manual_seed(0)
    with synchronized_layers(layer):
        own = layer(x.chunk(2)[one_of_two])
    torch.testing.assert_close(own, whole.chunk(2)[one_of_two])


def test_noise_is_that_of_a_single_process_however_its_tensor_lies_in_memory(one_of_two):
    for x in (torch.zeros(4, 3, 5), torch.zeros(3, 4, 5).transpose(0, 1)):
        torch.manual_seed(0)
        whole = torch.randn_like(x)
        torch.manual_seed(0)
        assert torch.equal(distributed.randn_like(torch.empty_like(x.chunk(2)[one_of_two])), whole.chunk(2)[one_of_two])


def test_a_process_by_itself_is_the_first_of_one():
    x = torch.ones(2, requires_grad=True)
    assert distributed.whole_batch(x) is x
    assert distributed.sum_with_gradient(x) is x
    assert (distributed.world_size(), distributed.rank(), distributed.is_rank_zero()) == (1, 0, True)
    assert (
        distributed.rank_zero_result(lambda: 3)
        == distributed.rank_zero_first(lambda: 3)
        == distributed.broadcast(3)
        == 3
    )
