"""That two SAEs are the same function."""

import torch


def assert_same(one, other, x):
    """Both as functions of raw activations x; the reconstruction also from the same latents."""
    with torch.no_grad():
        f, g = one.encode(x), other.encode(x)
        torch.testing.assert_close(f, g, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.decode(f), other.decode(f), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.decode(f), other.decode(g), rtol=1e-5, atol=1e-5)
    assert 0 < (f != 0).double().mean() < 1


def assert_same_rows(one, other, x):
    """As :func:`assert_same` for SAEs that normalise each row: what comes back is in the rows' own units."""
    with torch.no_grad():
        f, g = one.encode(x), other.encode(x)
        torch.testing.assert_close(f, g, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-5)
    assert 0 < (f != 0).double().mean() < 1
