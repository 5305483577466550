"""How good an SAE is, on episodes that it was not trained on."""
