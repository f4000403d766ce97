import pytest
import torch

from spectral_tl_bench.backbones.positions import ground_code, sincos
from spectral_tl_bench.methods.spectralx.positions import wavelength_code

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", [1, 5, 8])
def test_a_code_has_its_width_and_starts_with_sines(width):
    code = sincos(torch.tensor([0.0, 1.5]), width)
    assert code.shape == (2, width)
    assert code[1, 0] == torch.tensor(1.5, dtype=torch.float64).sin()


def test_ground_code_counts_metres():
    coarse = ground_code(3, 4, 16, 20.0, CPU, torch.float32).view(3, 4, 16)
    fine = ground_code(5, 7, 16, 10.0, CPU, torch.float32).view(5, 7, 16)
    torch.testing.assert_close(coarse, fine[::2, ::2])


def test_ground_code_has_columns_in_one_half_and_rows_in_the_other():
    code = ground_code(3, 4, 16, 10.0, CPU, torch.float32).view(3, 4, 16)
    assert torch.equal(code[0, :, :8], code[2, :, :8])
    assert torch.equal(code[:, 0, 8:], code[:, 3, 8:])


def test_a_code_first_used_for_inference_serves_training_too():
    with torch.inference_mode():
        code = ground_code(2, 9, 8, 10.0, CPU, torch.float32)
    weight = torch.ones(8, requires_grad=True)
    (weight * ground_code(2, 9, 8, 10.0, CPU, torch.float32)).sum().backward()
    assert not code.is_inference()


def test_wavelength_code_goes_from_the_first_band_to_the_last():
    wavelengths = (900.0, 450.0, 600.0)
    code = wavelength_code(wavelengths, 5, 7)
    bands = sincos(torch.tensor(wavelengths), 7).float()
    torch.testing.assert_close(code[::2], bands)
    torch.testing.assert_close(code[1], (bands[0] + bands[1]) / 2)


def test_wavelength_code_of_a_single_band_is_the_same_everywhere():
    code = wavelength_code((500.0,), 4, 6)
    assert torch.equal(code, code[:1].expand(4, 6))
