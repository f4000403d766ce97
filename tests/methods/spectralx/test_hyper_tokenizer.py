import pytest
import torch

from spectral_tl_bench.methods.spectralx.hyper_tokenizer import HyperTokenizer, inner_kernel, orthogonal_contrasts
from spectral_tl_bench.sensors import MTS12, Band, Sensor


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


@pytest.mark.parametrize("patch_size", [8, 14, 16])
@pytest.mark.parametrize("bands", [3, 32])
def test_the_pixel_path_starts_as_the_pretrained_patch_embedding_sees_grey(make_sensor, bands, patch_size):
    torch.manual_seed(0)
    embedding = torch.nn.Conv2d(bands, 32, patch_size, stride=patch_size)
    tokenizer = HyperTokenizer(make_sensor(bands), 32, patch_size, (2, 2), silent=True).eval()
    tokenizer.start_from(embedding.weight, embedding.bias)
    grey = torch.randn(2, 1, 2 * patch_size, 2 * patch_size).expand(-1, bands, -1, -1)
    torch.testing.assert_close(tokenizer(grey)[0], embedding(grey).flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("patch_size", [8, 14])
@pytest.mark.parametrize("bands", [4, 7])
def test_of_few_bands_the_pixel_path_starts_with_the_colours_of_an_rgb_model(make_sensor, bands, patch_size):
    torch.manual_seed(0)
    embedding = torch.nn.Conv2d(bands, 64, patch_size, stride=patch_size)
    embedding.weight.data[:, 3:] = 0
    tokenizer = HyperTokenizer(make_sensor(bands), 64, patch_size, (2, 2), silent=True).eval()
    tokenizer.start_from(embedding.weight, embedding.bias)
    images = torch.randn(64, bands, 2 * patch_size, 2 * patch_size)
    tokens, expected = tokenizer(images)[0], embedding(images).flatten(2).transpose(1, 2)
    # What differs are contrasts, which see the other bands too.
    assert (tokens - expected).norm() < 0.5 * expected.norm()
    without = tokens - expected
    assert abs(torch.nn.functional.cosine_similarity(without.flatten(), expected.flatten(), dim=0)) < 0.1


@pytest.mark.parametrize("patch_size", [8, 14, 16])
def test_equally_bright_spectra_are_told_apart_as_the_patch_embedding_does(make_sensor, patch_size):
    torch.manual_seed(0)
    embedding = torch.nn.Conv2d(6, 64, patch_size, stride=patch_size)
    tokenizer = HyperTokenizer(make_sensor(6), 64, patch_size, (2, 2), silent=True).eval()
    tokenizer.start_from(embedding.weight, embedding.bias)
    spectra = torch.randn(256, 6, 1, 1)
    equally_bright = (spectra - spectra.mean(dim=1, keepdim=True)).expand(-1, -1, patch_size, patch_size)
    dark = torch.zeros_like(equally_bright)
    expected = (embedding(equally_bright) - embedding(dark)).square().mean().sqrt().item()
    strength = (tokenizer(equally_bright)[0] - tokenizer(dark)[0]).square().mean().sqrt().item()
    assert strength == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("bands", [1, 2, 7, 13, 32])
def test_contrasts_sum_to_0_and_see_all_spectral_directions_alike(bands):
    torch.manual_seed(0)
    contrasts = orthogonal_contrasts(16, bands)
    assert contrasts.shape == (16, bands)
    torch.testing.assert_close(contrasts.sum(dim=1), torch.zeros(16), rtol=0, atol=1e-5)
    seen = torch.linalg.svdvals(contrasts)[: min(16, bands - 1)]
    torch.testing.assert_close(seen, torch.ones_like(seen))


def test_every_rank_of_the_pixel_path_can_still_train(make_sensor):
    torch.manual_seed(0)
    embedding = torch.nn.Conv2d(3, 32, 8, stride=8)
    tokenizer = HyperTokenizer(make_sensor(3), 32, 8, (2, 2), silent=True)
    tokenizer.start_from(embedding.weight, embedding.bias)
    tokenizer(torch.randn(2, 3, 16, 16))[0].square().sum().backward()
    fine, coarse = tokenizer.pixels
    assert all(fine.weight.grad[rank].any() and coarse.weight.grad[:, rank].any() for rank in range(16))
