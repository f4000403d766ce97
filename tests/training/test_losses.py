import pytest
import torch

from spectral_tl_bench.utils.registry import LOSSES

KINDS = LOSSES.names()


def scene(rare_is_right):
    """98 pixels of a common class, predicted right, and two of a rare one; logits, mask."""
    mask = torch.zeros(1, 10, 10, dtype=torch.long)
    mask[0, 0, :2] = 1
    predicted = mask if rare_is_right else torch.zeros_like(mask)
    return 4.0 * torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float(), mask


@pytest.mark.parametrize("kind", KINDS)
def test_a_better_prediction_costs_less(kind):
    wrong, right = (LOSSES.load(kind)(*scene(rare_is_right)) for rare_is_right in (False, True))
    assert right < wrong


def test_lovasz_cares_for_a_rare_class():
    def price(kind):
        wrong, right = (LOSSES.load(kind)(*scene(rare_is_right)) for rare_is_right in (False, True))
        return wrong - right

    # Missing one of two classes halves the mean IoU, however few pixels it has.
    assert price("cross_entropy_lovasz") - price("cross_entropy") > 0.4
    assert price("cross_entropy") < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_do_not_count(kind):
    logits, mask = scene(rare_is_right=False)
    mask[0, 5:] = 255
    other = logits.clone()
    other[:, :, 5:] = torch.randn(1, 3, 5, 10)
    assert torch.equal(LOSSES.load(kind)(logits, mask), LOSSES.load(kind)(other, mask))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_labelled_pixel_the_loss_is_zero_and_trains_nothing(kind):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = LOSSES.load(kind)(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()
