"""SAEs of other tools: SAELens folders, dictionary_learning folders, plain state dicts. See docs/sae_interchange.md.

`importing.import_sae` reads any of them, `exporting.export_sae` writes one. The rest of this package is one file per
format, how a format is recognised (`detect`), and what they have in common (`convention`).
"""
