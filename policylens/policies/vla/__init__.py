"""Vision-language-action policies with a flow-matching action expert: what the families pi0 and pi05 share."""
