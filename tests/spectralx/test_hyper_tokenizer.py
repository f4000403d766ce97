import pytest
import torch

from spectral_tl_bench.sensors import MTS12, Band, Sensor
from spectral_tl_bench.spectralx.hyper_tokenizer import HyperTokenizer, inner_kernel


@pytest.mark.parametrize("bands", [3, 7, 13, 24, 32])
@pytest.mark.parametrize("patch_size", [4, 8, 14, 16])
def test_tokens_and_maps_have_the_shapes_of_the_reference_image(make_sensor, bands, patch_size):
    tokenizer = HyperTokenizer(make_sensor(bands), 32, patch_size, (2, 4))
    images = torch.randn(2, bands, 2 * patch_size, 4 * patch_size)
    tokens, context = tokenizer(images)
    height, width = -(-2 * patch_size // 8), -(-4 * patch_size // 8)
    assert tokens.shape == (2, 8, 32)
    assert context["spatial"].shape == (2, height, width, 16)
    assert context["spectral"].shape == (2, 16, height * width)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (6, 1), (1, 1)])
@pytest.mark.parametrize("patch_size", [8, 14, 16])
def test_images_of_another_size_give_a_token_a_patch_and_finite_gradients(make_sensor, grid, patch_size):
    torch.manual_seed(0)
    tokenizer = HyperTokenizer(make_sensor(), 32, patch_size, (2, 4))
    tokens, context = tokenizer(torch.randn(1, 5, grid[0] * patch_size, grid[1] * patch_size))
    assert tokens.shape == (1, grid[0] * grid[1], 32)
    tokens.square().sum().backward()
    assert all(t.isfinite().all() for t in (tokens, *context.values()))
    assert all(p.grad.isfinite().all() for p in tokenizer.parameters())


def test_every_pixel_counts_where_eight_does_not_divide_the_image(make_sensor):
    torch.manual_seed(0)
    core = HyperTokenizer(make_sensor(), 32, 14, (3, 3)).eval().core
    images = torch.randn(1, 5, 42, 42, requires_grad=True)
    core.stem(images).square().sum().backward()
    assert (images.grad.abs().sum(dim=(0, 1)) > 0).all()


def test_every_position_is_told_from_its_neighbours(make_sensor):
    torch.manual_seed(0)
    tokenizer = HyperTokenizer(make_sensor(), 32, 8, (4, 4)).eval()
    spatial = tokenizer(torch.ones(1, 5, 32, 32))[1]["spatial"].flatten(1, 2)[0]
    assert torch.cdist(spatial, spatial).add(torch.eye(16) * 9).min() > 1e-3


@pytest.mark.parametrize(
    ("patch_size", "kernel"), [(16, 4), (8, 2), (14, 2), (32, 8), (12, 3), (4, 1), (2, 1), (1, 1), (7, 1)]
)
def test_two_strides_of_the_pixel_path_make_a_patch(patch_size, kernel):
    assert inner_kernel(patch_size) == kernel
    assert patch_size % kernel == 0


@pytest.mark.parametrize("wavelengths", [(900.0, 450.0, 600.0), (560.0, 560.0, 560.0)])
def test_bands_need_no_order_and_may_repeat(wavelengths):
    bands = tuple(Band(name=str(i), wavelength=w) for i, w in enumerate(wavelengths))
    sensor = Sensor(name="odd", bands=bands, rgb=("0", "1", "2"))
    tokens, _ = HyperTokenizer(sensor, 32, 8, (2, 2))(torch.randn(2, 3, 16, 16))
    assert tokens.isfinite().all()


def test_repeated_dates_give_finite_tokens():
    tokens, _ = HyperTokenizer(MTS12, 32, 8, (2, 2))(torch.randn(2, 24, 16, 16))
    assert tokens.isfinite().all()


def test_images_of_a_batch_do_not_depend_on_one_another_at_inference(make_sensor):
    torch.manual_seed(0)
    tokenizer = HyperTokenizer(make_sensor(), 32, 8, (4, 4)).eval()
    images = torch.randn(3, 5, 32, 32)
    torch.testing.assert_close(tokenizer(images)[0][1:2], tokenizer(images[1:2])[0], atol=1e-5, rtol=1e-5)


def patch_embedding(colours, bands, patch_size, width=32):
    """A random embedding of a few colours, repeated over the bands as pretrained ones are."""
    weight = torch.randn(width, colours, patch_size, patch_size).repeat(1, bands, 1, 1)[:, :bands]
    return weight / bands, torch.randn(width)


@pytest.mark.parametrize("bands", [3, 7, 32])
def test_the_pixel_path_starts_as_the_pretrained_patch_embedding(make_sensor, bands):
    torch.manual_seed(0)
    weight, bias = patch_embedding(3, bands, 8)
    tokenizer = HyperTokenizer(make_sensor(bands), 32, 8, (2, 2), silent=True).eval()
    tokenizer.start_from(weight, bias)
    images = torch.randn(2, bands, 16, 16)
    expected = torch.nn.functional.conv2d(images, weight, bias, stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokenizer(images)[0], expected, rtol=1e-3, atol=1e-4)


def test_an_embedding_of_higher_rank_is_approximated_better_than_by_nothing(make_sensor):
    torch.manual_seed(0)
    weight, _ = patch_embedding(12, 12, 16)
    tokenizer = HyperTokenizer(make_sensor(12), 32, 16, (2, 2), silent=True).eval()
    tokenizer.start_from(weight, None)
    images = torch.randn(4, 12, 32, 32)
    expected = torch.nn.functional.conv2d(images, weight, stride=16).flatten(2).transpose(1, 2)
    assert (tokenizer(images)[0] - expected).square().mean() < 0.95 * expected.square().mean()


def test_every_rank_of_the_pixel_path_can_still_train(make_sensor):
    torch.manual_seed(0)
    tokenizer = HyperTokenizer(make_sensor(3), 32, 8, (2, 2), silent=True)
    tokenizer.start_from(*patch_embedding(1, 3, 8))
    tokenizer(torch.randn(2, 3, 16, 16))[0].square().sum().backward()
    fine, coarse = tokenizer.pixels
    trains = [fine.weight.grad[r].any() or coarse.weight.grad[:, r].any() for r in range(16)]
    assert all(trains)
